"""The time: one clock that measures, and one that people read.

How long something may take, when it expires, what comes before what: that is measured by
`monotonic`, which nobody can set. `wall` is only shown: it jumps when somebody sets the
machine's clock, or when the network corrects it. While the machine is suspended `monotonic`
stands still on Linux, so that no deadline passes in a sleep; on Windows it goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def _wall() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """Where a part of the system gets the time from.

    `monotonic` gives seconds since some moment, `wall` the date and time, timezone-aware.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = _wall

    def shown(self, moment: float) -> datetime:
        """A moment of `monotonic` as people read it now."""
        return self.wall() + timedelta(seconds=moment - self.monotonic())
