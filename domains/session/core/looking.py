"""When a queue looks again at who comes when: it takes as long as there are sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SHORT = 100
"""A queue of so many is looked at whenever something happens."""
REST = 9.0
"""How many times as long as a look took the event loop is other work's before the next one."""


class Looks:
    """Has a queue looked at: a short one at once, a longer one now and then.

    Thousands that come one after another would else each have all before them looked at.

    Args:
        look: Looks at it.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._not_before = 0.0  # in seconds of `time.monotonic`
        self._planned: asyncio.TimerHandle | None = None

    def again(self, count: int, *, urgent: bool = False) -> bool:
        """Something happened that is to be seen: now, or soon, for which one look is planned.

        Args:
            count: How many sessions there are to look at.
            urgent: Whether it is to be seen now in any case.

        Returns:
            Whether it has been.
        """
        wait = self._not_before - time.monotonic()
        if not urgent and wait > 0.0 and count > SHORT:
            if self._planned is None:
                self._planned = asyncio.get_running_loop().call_later(wait, self._now)
            return False
        self._now()
        return True

    def _now(self) -> None:
        self.stop()
        began = time.monotonic()
        try:
            self._look()
        finally:
            now = time.monotonic()
            self._not_before = now + REST * (now - began)

    def stop(self) -> None:
        """Nothing is planned any more."""
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
