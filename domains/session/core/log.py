"""A session's numbered events, and waiting for more of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from domains.session.types import (
    Cancelled,
    Completed,
    Entry,
    Failed,
    Preview,
    SessionEvent,
    Terminal,
    TransferProgress,
)

_TRANSFER_INTERVAL_SECONDS = 0.1


class EventLog:
    """Entries numbered from 1 without gaps, ended by exactly one terminal entry.

    Readers keep their own place, so a slow one costs nothing but its own delay. The
    newest preview is kept beside the entries and replaces the one before it.
    """

    def __init__(self, session_id: str, now: Callable[[], datetime]) -> None:
        self._session_id = session_id
        self._now = now
        self._entries: list[SessionEvent] = []
        self._changed = asyncio.Event()
        self._last_transfer: datetime | None = None
        self.preview: SessionEvent | None = None

    @property
    def last_sequence(self) -> int:
        """Number of the newest entry; 0 before the first."""
        return len(self._entries)

    @property
    def terminal(self) -> Terminal | None:
        """The entry that ended the log, once it has ended."""
        if not self._entries:
            return None
        last = self._entries[-1].event
        return last if isinstance(last, Completed | Failed | Cancelled) else None

    def entry(self, sequence: int) -> SessionEvent:
        """The entry with that number (from 1)."""
        return self._entries[sequence - 1]

    def append(self, entry: Entry) -> None:
        """Add an entry. Transfer progress is thinned to ten a second; the last byte stays.

        Raises:
            RuntimeError: The log has ended.
        """
        if self.terminal is not None:
            raise RuntimeError(f"session {self._session_id} has ended")
        now = self._now()
        if isinstance(entry, TransferProgress) and entry.done_bytes < entry.total_bytes:
            last = self._last_transfer
            if last is not None and (now - last).total_seconds() < _TRANSFER_INTERVAL_SECONDS:
                return
            self._last_transfer = now
        self._entries.append(SessionEvent(self._session_id, len(self._entries) + 1, now, entry))
        self.wake()

    def show(self, preview: Preview) -> None:
        """Replace the preview."""
        self.preview = SessionEvent(self._session_id, self.last_sequence, self._now(), preview)
        self.wake()

    def wake(self) -> None:
        """Let waiting readers look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def change(self) -> asyncio.Event:
        """An event that is set at the next change; take it before looking."""
        return self._changed
