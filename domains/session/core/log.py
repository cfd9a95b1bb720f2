"""A session's numbered events, and waiting for more of them."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from operator import attrgetter

from domains.clock import Clock
from domains.session.types import (
    Cancelled,
    Completed,
    Entry,
    Failed,
    ImageFinished,
    ItemFinished,
    Passing,
    PieceFinished,
    Preview,
    SessionEvent,
    StepFinished,
    Terminal,
    TransferProgress,
)

_TRANSFER_SECONDS = 0.1
# So many steps are kept one by one; from there on the interval between two that are kept
# doubles with every `_STEPS_AT_ONE_INTERVAL`, so that no session's log grows without end.
_STEPS_KEPT = 2_000
_STEPS_AT_ONE_INTERVAL = 500


class EventLog:
    """Entries numbered from 1, ended by exactly one terminal entry.

    Numbers have no gaps until the log is condensed. Readers keep their own place, so a slow
    one costs nothing but its own delay. The newest preview is kept beside the entries and
    replaces the one before it.
    """

    def __init__(self, session_id: str, clock: Clock) -> None:
        self._session_id = session_id
        self._clock = clock
        self._entries: list[SessionEvent] = []
        self._changed = asyncio.Event()
        self._last_transfer = float("-inf")
        self._last_piece = float("-inf")
        self._last_step = float("-inf")
        self._steps = 0
        self.last_sequence = 0
        """Number of the newest entry; 0 before the first."""
        self.first_sequence = 1
        """From here on no entry is missing."""
        self.preview: SessionEvent | None = None

    @classmethod
    def remembered(
        cls, session_id: str, clock: Clock, events: list[SessionEvent], first: int, last: int
    ) -> EventLog:
        """A log that another server began: its entries, the number from which on none is
        missing, and the last one that was given out.
        """
        log = cls(session_id, clock)
        log._entries = events
        log.first_sequence, log.last_sequence = first, last
        return log

    def kept(self) -> tuple[list[SessionEvent], int]:
        """What outlives the server: the entries without progress, and the number from which on
        none of them is missing then.
        """
        gaps = [entry.sequence for entry in self._entries if _is_progress(entry)]
        first = max(self.first_sequence, gaps[-1] + 1) if gaps else self.first_sequence
        return [entry for entry in self._entries if not _is_progress(entry)], first

    def shorten(self, most: int) -> None:
        """Where there are a quarter more entries than `most`, give up the oldest of them but
        the first."""
        if len(self._entries) > most + most // 4:
            del self._entries[1 : 1 + len(self._entries) - most]
            self.first_sequence = self._entries[1].sequence

    def drop_results(self) -> None:
        """Give up finished pictures and items: the work begins without them."""
        self._entries = [
            entry
            for entry in self._entries
            if not isinstance(entry.event, ImageFinished | ItemFinished)
        ]

    def skip(self, count: int) -> None:
        """Leave out so many numbers, of entries that clients may know and this log does not."""
        self.last_sequence += count
        self.first_sequence = self.last_sequence + 1

    def __len__(self) -> int:
        """How many entries are kept."""
        return len(self._entries)

    @property
    def terminal(self) -> Terminal | None:
        """The entry that ended the log, once it has ended."""
        if not self._entries:
            return None
        last = self._entries[-1].event
        return last if isinstance(last, Completed | Failed | Cancelled) else None

    def entry(self, sequence: int) -> SessionEvent | None:
        """The first kept entry of that number (from 1) or a later one, if there is one."""
        at = bisect_left(self._entries, sequence, key=attrgetter("sequence"))
        return self._entries[at] if at < len(self._entries) else None

    def entries(self) -> list[Entry]:
        """What is kept, oldest first."""
        return [event.event for event in self._entries if not isinstance(event.event, Passing)]

    def append(self, entry: Entry, item_id: str = "") -> None:
        """Add an entry, about an item where it has its name. Progress that comes too often is
        left out; its last one stays.

        Raises:
            RuntimeError: The log has ended.
        """
        if self.terminal is not None:
            raise RuntimeError(f"session {self._session_id} has ended")
        if self._is_too_much(entry):
            return
        self.last_sequence += 1
        now = self._clock.wall()
        event = SessionEvent(self._session_id, self.last_sequence, now, entry, item_id=item_id)
        self._entries.append(event)
        self.wake()

    def _is_too_much(self, entry: Entry) -> bool:
        now = self._clock.monotonic()
        if isinstance(entry, TransferProgress) and entry.done_bytes < entry.total_bytes:
            if now - self._last_transfer < _TRANSFER_SECONDS:
                return True
            self._last_transfer = now
        if isinstance(entry, PieceFinished) and entry.done < entry.total:
            if now - self._last_piece < _TRANSFER_SECONDS:
                return True
            self._last_piece = now
        if isinstance(entry, StepFinished):
            interval = 0.0
            if self._steps >= _STEPS_KEPT:
                doubled = (self._steps - _STEPS_KEPT) // _STEPS_AT_ONE_INTERVAL
                interval = _TRANSFER_SECONDS * 2.0**doubled
            if now - self._last_step < interval:
                return True
            self._last_step = now
            self._steps += 1
        return False

    def condense(self) -> None:
        """Give up the progress in a log that has ended; everything else stays."""
        self._entries, self.first_sequence = self.kept()

    def show(self, preview: Preview, item_id: str = "") -> None:
        """Replace the preview."""
        now = self._clock.wall()
        self.preview = SessionEvent(
            self._session_id, self.last_sequence, now, preview, item_id=item_id
        )
        self.wake()

    def wake(self) -> None:
        """Let waiting readers look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def change(self) -> asyncio.Event:
        """An event that is set at the next change; take it before looking."""
        return self._changed


def _is_progress(entry: SessionEvent) -> bool:
    return isinstance(entry.event, StepFinished | PieceFinished | TransferProgress)
