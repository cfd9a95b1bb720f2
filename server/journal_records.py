"""Records in the journal: what waits for the disk at the same time is one transaction."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from domains import failpoints
from domains.session.records import SESSION_KIND, KeptSession
from server.journal_file import JournalFile
from server.journal_rows import Rows
from server.journal_schema import transaction

_PUT = (
    "INSERT INTO records (kind, key, body, sha256) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body, sha256 = excluded.sha256"
)
_REMOVE = "DELETE FROM records WHERE kind = ? AND key = ?"
_Name = tuple[str, str]
"""A record's kind and key."""


@dataclass(frozen=True)
class _Change:
    """A record as it shall be, None for none; `written` hears that it was tried, and of a `new`
    one also why it was not written."""

    name: _Name
    body: bytes | None
    new: bool
    written: Future[None] = field(default_factory=Future)


class RecordTable:
    """The table of records: any thread may call what is not said to be the file's thread's.

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
        self._records: dict[_Name, bytes] = {}
        self._unwritten: dict[_Name, None] = {}
        self._loaded = False
        # Of an earlier server.
        self._found: Mapping[_Name, bytes] = {}
        self._sessions: Mapping[str, KeptSession] = {}

    def found(self, kind: str) -> Mapping[str, bytes]:
        """The records of that kind of an earlier server, in the order of their acceptance. They
        are given out once, and not kept beside those that replace them."""
        found = {key: body for (its, key), body in self._found.items() if its == kind}
        self._found = {name: body for name, body in self._found.items() if name[0] != kind}
        return found

    def sessions(self) -> list[KeptSession]:
        """What the records of sessions of an earlier server are; likewise, and instead of their
        bytes."""
        sessions, self._sessions = self._sessions, {}
        return [sessions[key] for key in self.found(SESSION_KIND)]

    def accept(self, kind: str, key: str, body: bytes) -> Future[None]:
        """Write a new record: what comes back is done when it is on disk, or has the error."""
        return self._change(_Change((kind, key), body, new=True))

    def put(self, kind: str, key: str, body: bytes | None) -> Future[None]:
        """Have another record, or none: in the file as soon as it can be written. What comes
        back is done when that was tried for the first time."""
        return self._change(_Change((kind, key), body, new=False))

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

    def take_up(self, connection: sqlite3.Connection, rows: Rows) -> None:
        """There is a file, with these rows: it shall have what is known here."""
        stored = {(kind, key): body for _, kind, key, body, _ in rows.records}
        self.load(rows)
        with transaction(connection):
            connection.executemany(_REMOVE, stored.keys() - self._records.keys())
            changed = [
                (*name, body, hashlib.sha256(body).digest())
                for name, body in self._records.items()
                if stored.get(name) != body
            ]
            connection.executemany(_PUT, changed)
        self._unwritten.clear()

    def load(self, rows: Rows) -> None:
        """Take over what an earlier server has written, the first time."""
        if not self._loaded:
            self._loaded = True
            ordered = sorted(rows.records)
            self._records = {(kind, key): body for _, kind, key, body, _ in ordered}
            self._found, self._sessions = dict(self._records), rows.sessions

    def write_again(self) -> None:
        """Try again what the disk did not take."""
        if self._unwritten:
            self._file.written(self._write)

    def _write_waiting(self) -> None:
        changes = self._take()
        for each in changes:
            self._apply(each.name, each.body)
        error = self._file.written(self._write)
        if error is not None:
            for each in changes:
                if each.new:
                    self._apply(each.name, None)
        self._end(changes, error)

    def _apply(self, name: _Name, body: bytes | None) -> None:
        self._unwritten[name] = None
        if body is None:
            self._records.pop(name, None)
        else:
            self._records[name] = body

    def _write(self) -> None:
        connection = self._file.connection
        assert connection is not None
        with transaction(connection):
            for name in self._unwritten:
                body = self._records.get(name)
                if body is None:
                    connection.execute(_REMOVE, name)
                else:
                    connection.execute(_PUT, (*name, body, hashlib.sha256(body).digest()))
            failpoints.reach("journal.before-commit")
        self._unwritten.clear()

    def _end(self, changes: Iterable[_Change], error: Exception | None) -> None:
        for each in changes:
            if not each.written.set_running_or_notify_cancel():
                continue
            if error is None or not each.new:
                each.written.set_result(None)
            else:
                each.written.set_exception(self._refusal(error))


class KindOfRecords:
    """Records of one kind; see the port `Records`.

    Args:
        table: Where all of them are.
        kind: Tells them from others.
    """

    def __init__(self, table: RecordTable, kind: str) -> None:
        self._table, self._kind = table, kind

    def found(self) -> Mapping[str, bytes]:
        """What an earlier server kept; see the port."""
        return self._table.found(self._kind)

    async def accept(self, key: str, body: bytes) -> None:
        """Keep a new one; see the port."""
        await asyncio.wrap_future(self._table.accept(self._kind, key, body))

    def put(self, key: str, body: bytes) -> Future[None]:
        """Keep another one; see the port."""
        return self._table.put(self._kind, key, body)

    def remove(self, key: str) -> Future[None]:
        """Keep none; see the port."""
        return self._table.put(self._kind, key, None)
