"""What comes before new work on a device; of a long queue it is looked at now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from domains.session.core.looking import REST, SHORT
from domains.session.core.queue import DeviceQueue
from domains.session.core.session import Session
from domains.session.types import Priority

Seconds = Callable[[Sequence[Session]], float | None]
"""When such sessions are done, one after another; None where nobody knows."""


@dataclass(frozen=True)
class QueueLoad:
    """How many sessions come before, when they are done, None where nobody knows, and which
    model the last of them leaves on the device, "" where none of them has one."""

    sessions: int
    seconds: float | None
    model_id: str

    def behind(self, more: int, own: float | None) -> QueueLoad:
        """With so many more, or fewer, sessions before, each of which takes `own` seconds."""
        if self.seconds is None or own is None:
            return replace(self, sessions=max(self.sessions + more, 0), seconds=None)
        seconds = max(self.seconds + more * own, 0.0)
        return replace(self, sessions=max(self.sessions + more, 0), seconds=seconds)


@dataclass(frozen=True)
class _Look:
    load: QueueLoad
    length: int
    good_until: float


class QueueLoads:
    """Looks at queues for those who place work.

    Going through thousands for each that comes would take longer than accepting them: a long
    queue is gone through a tenth of the time at most. In between every session that came since
    counts as the work that asks.
    """

    def __init__(self) -> None:
        self._looks: dict[tuple[str, Priority], _Look] = {}

    def of(
        self, queue: DeviceQueue, priority: Priority, own: float | None, seconds: Seconds
    ) -> QueueLoad:
        """What comes before work of that priority, which takes `own` seconds."""
        key, length, now = (queue.device_id, priority), queue.length, time.monotonic()
        look = self._looks.get(key)
        if length > SHORT and look is not None and now < look.good_until:
            return look.load.behind(length - look.length, own)
        before = queue.before(priority)
        models = [session.model_id for session in before if session.model_id]
        load = QueueLoad(len(before), seconds(before), models[-1] if models else "")
        end = time.monotonic()
        self._looks[key] = _Look(load, length, end + REST * (end - now))
        return load
