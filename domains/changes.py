"""Numbered changes of things that clients watch: told as they happen, and kept for a while.

A client that was away goes on after the last revision that it saw, as long as the changes
since then are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Generic, TypeVar

from domains.errors import OutOfRange, Reason

KEPT = 1_000
"""Changes that are kept for clients that come back."""
HEARTBEAT_SECONDS = 5.0
"""Silence after which a watcher is sent a heartbeat."""
_MOST_PER_KEY = 8

T = TypeVar("T")


def first_revision(now: datetime) -> int:
    """Where revisions begin that count from `now`, timezone-aware, in microseconds: those of an
    earlier life of the server lie before it.
    """
    return int(now.timestamp() * 1_000_000)


class ChangesExpired(OutOfRange):
    """The changes after a revision are not kept, or it is of another life of the server."""

    def __init__(self, revision: int, first: int, last: int) -> None:
        super().__init__(
            f"What changed after revision {revision} is not kept any more; watch without "
            "from_revision, which begins with the state of now.",
            reason=Reason.EVENTS_EXPIRED,
            metadata={"first_revision": str(first), "last_revision": str(last)},
        )


class Signal(Enum):
    """What a watcher is told that is no change."""

    SNAPSHOT_END = "snapshot-end"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True)
class Change(Generic[T]):
    """What happened to the thing that `key` names, when, and its number."""

    revision: int
    key: str
    what: T
    event_time: datetime


@dataclass(frozen=True)
class Told(Generic[T]):
    """One message to a watcher.

    `revision` is the change's own; of the newest change, for the state of now and signals.
    """

    revision: int
    what: T | Signal
    event_time: datetime


class _Inbox(Generic[T]):
    """Changes that one watcher was not told yet, in order, at most eight of each thing."""

    def __init__(self, wanted: Callable[[T], bool], merge: Callable[[T, T], T]) -> None:
        self._wanted = wanted
        self._merge = merge
        self._waiting: dict[int, Change[T]] = {}  # by revision
        self._revisions: dict[str, list[int]] = {}  # by key
        self._arrived = asyncio.Event()

    def put(self, change: Change[T]) -> None:
        if not self._wanted(change.what):
            return
        revisions = self._revisions.setdefault(change.key, [])
        if len(revisions) >= _MOST_PER_KEY:
            older = self._waiting.pop(revisions.pop())
            change = replace(change, what=self._merge(older.what, change.what))
        revisions.append(change.revision)
        self._waiting[change.revision] = change
        self._arrived.set()

    def take(self) -> list[Change[T]]:
        """Everything that waits; it does not wait any more."""
        taken = list(self._waiting.values())
        self._waiting.clear()
        self._revisions.clear()
        self._arrived.clear()
        return taken

    async def wait(self, seconds: float) -> None:
        """Until something waits, and that long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()


class Changes(Generic[T]):
    """Tells watchers what changes, and keeps the last changes. Belongs to one event loop.

    A watcher that is slow is told at least the newest change of each thing: of more than
    eight that wait, the newest takes the place of the one before it.

    Args:
        now: The wall clock, timezone-aware. Revisions count from its microseconds, so that
            those of an earlier life of the server are recognised and not taken for others.
        merge: What is told in place of an older change and the newer one that follows it.
        kept: Most changes that are kept.
        heartbeat_seconds: Silence after which a watcher is sent a heartbeat.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        merge: Callable[[T, T], T] = lambda older, newer: newer,
        kept: int = KEPT,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._now = now
        self._merge = merge
        self._heartbeat_seconds = heartbeat_seconds
        self._kept: deque[Change[T]] = deque(maxlen=kept)
        self._revision = first_revision(now())
        self._inboxes: set[_Inbox[T]] = set()

    @property
    def revision(self) -> int:
        """Number of the newest change; before the first one, that it will follow."""
        return self._revision

    def add(self, key: str, what: T) -> None:
        """Something happened to the thing that `key` names."""
        self._revision += 1
        change = Change(self._revision, key, what, self._now())
        self._kept.append(change)
        for inbox in self._inboxes:
            inbox.put(change)

    def since(self, revision: int) -> list[Change[T]]:
        """The changes after a revision, oldest first.

        Raises:
            ChangesExpired: Not all of them are kept, or there was no such revision.
        """
        first = self._revision - len(self._kept)
        if not first <= revision <= self._revision:
            raise ChangesExpired(revision, first, self._revision)
        return [change for change in self._kept if change.revision > revision]

    async def watch(
        self,
        state: Callable[[], Iterable[T]],
        *,
        from_revision: int = 0,
        wanted: Callable[[T], bool] = lambda what: True,
    ) -> AsyncGenerator[Told[T]]:
        """The state of now and the end of it, then what changes, without end.

        Args:
            state: Each thing as it is now, as it is told to a watcher that knows none.
            from_revision: Tell the changes after this one instead of the state of now; 0 is
                the state.
            wanted: Which of the state and the changes are told.

        Raises:
            ChangesExpired: The changes after `from_revision` are not kept.
        """
        missed = self.since(from_revision) if from_revision else []
        told = [] if from_revision else [what for what in state() if wanted(what)]
        revision, now = self._revision, self._now()
        inbox = _Inbox(wanted, self._merge)
        self._inboxes.add(inbox)
        try:
            for what in told:
                yield Told(revision, what, now)
            if not from_revision:
                yield Told(revision, Signal.SNAPSHOT_END, now)
            for change in missed:
                if wanted(change.what):
                    yield Told(change.revision, change.what, change.event_time)
            while True:
                await inbox.wait(self._heartbeat_seconds)
                waiting = inbox.take()
                for change in waiting:
                    yield Told(change.revision, change.what, change.event_time)
                if not waiting:
                    yield Told(self._revision, Signal.HEARTBEAT, self._now())
        finally:
            self._inboxes.discard(inbox)
