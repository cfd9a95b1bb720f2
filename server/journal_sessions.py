"""Sessions in the journal: what waits for the disk at the same time is one transaction."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from server.journal_file import JournalFile
from server.journal_rows import Row
from server.journal_schema import transaction

_PUT = (
    "INSERT INTO sessions (session_id, body, sha256) VALUES (?, ?, ?)"
    " ON CONFLICT (session_id) DO UPDATE SET body = excluded.body, sha256 = excluded.sha256"
)
_REMOVE = "DELETE FROM sessions WHERE session_id = ?"


@dataclass(frozen=True)
class _Change:
    """A session's record as it shall be, None for none; `written` hears that it was tried, and
    of a `new` one also why it was not written."""

    session_id: str
    body: bytes | None
    new: bool
    written: Future[None] = field(default_factory=Future)


class SessionTable:
    """The table of sessions: any thread may call what is not said to be the file's thread's.

    A row keeps the number that it had when it first came, which is the order of acceptance.

    Args:
        file: Where the table is.
        submit: Has something done in the file's thread; raises RuntimeError once that ended.
        refusal: What a caller is told of an error of the disk.
    """

    def __init__(
        self,
        file: JournalFile,
        submit: Callable[[Callable[[], None]], object],
        refusal: Callable[[Exception], Exception],
    ) -> None:
        self._file, self._submit, self._refusal = file, submit, refusal
        self._lock = threading.Lock()
        self._waiting: list[_Change] = []
        # Of the file's thread: every record, and those that the file does not have like that.
        self._records: dict[str, bytes] = {}
        self._unwritten: dict[str, None] = {}
        self._loaded = False
        self.found: Sequence[bytes] = ()
        """The records of an earlier server, in the order of their acceptance."""

    def accept(self, session_id: str, body: bytes) -> Future[None]:
        """Write a new record: what comes back is done when it is on disk, or has the error."""
        return self._change(_Change(session_id, body, new=True))

    def put(self, session_id: str, body: bytes | None) -> Future[None]:
        """Have another record, or none: in the file as soon as it can be written. What comes
        back is done when that was tried for the first time."""
        return self._change(_Change(session_id, body, new=False))

    def _change(self, change: _Change) -> Future[None]:
        with self._lock:
            self._waiting.append(change)
            first = len(self._waiting) == 1
        if first:
            try:
                self._submit(self._write_waiting)
            except RuntimeError as error:  # closed
                self._end(self._take(), error)
        return change.written

    def _take(self) -> list[_Change]:
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    # In the file's thread.

    def take_up(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        """There is a file, with these rows: it shall have what is known here."""
        stored = {session_id: body for _, session_id, body, _ in rows}
        self.load(rows)
        with transaction(connection):
            for session_id in stored.keys() - self._records.keys():
                connection.execute(_REMOVE, (session_id,))
            changed = [
                (session_id, body, hashlib.sha256(body).digest())
                for session_id, body in self._records.items()
                if stored.get(session_id) != body
            ]
            connection.executemany(_PUT, changed)
        self._unwritten.clear()

    def load(self, rows: Iterable[Row]) -> None:
        """Take over what an earlier server has written, the first time."""
        if not self._loaded:
            self._loaded = True
            self._records = {session_id: body for _, session_id, body, _ in sorted(rows)}
            self.found = tuple(self._records.values())

    def write_again(self) -> None:
        """Try again what the disk did not take."""
        if self._unwritten:
            self._file.written(self._write)

    def _write_waiting(self) -> None:
        changes = self._take()
        for each in changes:
            self._apply(each.session_id, each.body)
        error = self._file.written(self._write)
        if error is not None:
            for each in changes:
                if each.new:
                    self._apply(each.session_id, None)
        self._end(changes, error)

    def _apply(self, session_id: str, body: bytes | None) -> None:
        self._unwritten[session_id] = None
        if body is None:
            self._records.pop(session_id, None)
        else:
            self._records[session_id] = body

    def _write(self) -> None:
        connection = self._file.connection
        assert connection is not None
        with transaction(connection):
            for session_id in self._unwritten:
                body = self._records.get(session_id)
                if body is None:
                    connection.execute(_REMOVE, (session_id,))
                else:
                    row = session_id, body, hashlib.sha256(body).digest()
                    connection.execute(_PUT, row)
        self._unwritten.clear()

    def _end(self, changes: Iterable[_Change], error: Exception | None) -> None:
        for each in changes:
            if not each.written.set_running_or_notify_cancel():
                continue
            if error is None or not each.new:
                each.written.set_result(None)
            else:
                each.written.set_exception(self._refusal(error))
