"""The journal: what outlives the server, in one SQLite file that a thread of its own writes.

It holds facts (small values by key), the history of memory, and records. All are read once, at
the start; afterwards they are in memory, and changes go to disk. Losing the disk loses what is
written meanwhile and never takes the server down.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog

from domains.errors import DomainError, Reason, ResourceExhausted, Unavailable
from domains.memory.types import History, Reading
from domains.session.errors import ShuttingDown
from domains.session.records import KeptSession
from domains.shortages import shortage_of
from server import journal_rows
from server.event_loop import Threads
from server.history import HistoryTables
from server.journal_file import JournalFile, look
from server.journal_records import KindOfRecords, RecordTable
from server.journal_schema import migrate, transaction

# Moments that wait for a disk that takes nothing; the oldest go beyond that.
_MOST_WAITING = 7_200
_WRITE_SECONDS = 5.0

_log = structlog.get_logger("deviceops.journal")


class Journal:
    """What is on disk; see the ports `FactsStore`, `HistoryStore` and `Records`.

    Any thread may call it. One thread uses the file, another one the history in memory, so
    that a disk that hangs keeps no reader waiting.

    Args:
        path: The file; its folder is made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # One that a disk holds up must not hold up the end of the process.
        self._thread = Threads(1, "journal")
        self._file = JournalFile(path, self._take_up)
        self._tables: HistoryTables | None = None  # of the file, once it was opened
        self._records = RecordTable(self._file, self._thread.submit, _not_accepted)
        self._facts: dict[str, bytes] = {}
        self._put_here: set[str] = set()
        self._waiting: deque[tuple[float, Sequence[Reading]]] = deque(maxlen=_MOST_WAITING)
        self._written_at = 0.0
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._memory = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        migrate(self._memory)
        self._recent = HistoryTables(self._memory)
        self._loaded = False

    # Life.

    def open(self) -> None:
        """Read what an earlier server wrote; a file that cannot be used is set aside.

        Blocks for as long as that takes. A disk that takes nothing is logged: facts and
        history are kept in memory then, and tried again at every write.
        """
        self._thread.submit(self._open).result()

    def close(self) -> None:
        """Write what waits and end the threads. Calling it twice is harmless."""
        with contextlib.suppress(RuntimeError):  # closed before
            self._thread.submit(self._close).result()
        self._thread.shutdown()
        self._reader.shutdown()
        self._memory.close()

    # Facts.

    def get(self, key: str) -> bytes | None:
        """The value of `key`, from memory."""
        return self._facts.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`; it is on disk when this returns.

        Blocks for a disk's sync, milliseconds as a rule.

        Raises:
            ResourceExhausted: DISK_FULL: the disk does not take it; or another shortage.
            Unavailable: STORAGE_UNAVAILABLE: the file cannot be written for another reason.
                In all cases it holds until the server ends, and is written before that
                when the disk takes it again.
        """
        self._put_here.add(key)  # first: what the file has of it is older from here on
        self._facts[key] = bytes(value)
        error = self._thread.submit(self._file.written, lambda: self._put(key, value)).result()
        if error is not None:
            raise _not_written(error) from error

    def forget(self, key: str) -> None:
        """Have nothing under `key` any more; see the port. Returns at once."""
        self._put_here.add(key)
        self._facts.pop(key, None)
        with contextlib.suppress(RuntimeError):  # closed
            self._thread.submit(self._file.written, lambda: self._delete(key))

    # Records.

    def records(self, kind: str) -> KindOfRecords:
        """Those of one kind; see the port `Records`."""
        return KindOfRecords(self._records, kind)

    def sessions(self) -> list[KeptSession]:
        """Those of an earlier server; see `Keeping`."""
        return self._records.sessions()

    # The history of memory.

    def record(self, moment: float, readings: Sequence[Reading]) -> Future[None] | None:
        """Take in what was read or happened at `moment`; see the port.

        Returns at once, with what is done when it was tried to write; None once closed. What
        the disk does not take waits for the next call.
        """
        try:
            self._submit(self._note, moment, readings)
            return self._thread.submit(self._keep, moment, readings)
        except RuntimeError:  # closed
            return None

    async def histories(self, since: float, until: float, points: int) -> tuple[History, ...]:
        """Every place's history over the window; see the port."""
        asked = self._reader.submit(self._recent.histories, since, until, points)
        return await asyncio.wrap_future(asked)

    def _submit(self, work: Callable[..., None], *arguments: object) -> None:
        self._reader.submit(work, *arguments).add_done_callback(_log_failure)

    # In the thread of the history in memory.

    def _note(self, moment: float, readings: Sequence[Reading]) -> None:
        with transaction(self._memory):
            self._recent.add(moment, readings)

    def _load(self, rows: journal_rows.Rows) -> None:
        with transaction(self._memory):
            self._recent.put(rows.memory_intervals, rows.memory_owners)

    # In the thread of the file.

    def _open(self) -> None:
        if self._file.written(lambda: None) is not None and not self._loaded:
            # A disk that takes nothing may still be read.
            with contextlib.suppress(sqlite3.Error, OSError):
                rows = look(self._path)
                self._remember(dict(rows.facts))
                self._take_history(rows)
                self._records.load(rows)

    def _close(self) -> None:
        self._records.write_again()
        if self._waiting:
            self._file.written(self._flush)
        self._file.close()

    def _take_up(self, connection: sqlite3.Connection, rows: journal_rows.Rows) -> None:
        self._tables = HistoryTables(connection)
        self._take_history(rows)
        self._records.take_up(connection, rows)
        stored: dict[str, bytes] = dict(rows.facts)
        # What was put here is newer: the disk was away meanwhile.
        self._remember(stored)
        for key, value in tuple(self._facts.items()):
            if stored.get(key) != value:
                self._put(key, value)

    def _remember(self, stored: Mapping[str, bytes]) -> None:
        """Take up facts of the file, except those that were put since."""
        for key in stored.keys() - self._put_here:
            self._facts[key] = stored[key]

    def _take_history(self, rows: journal_rows.Rows) -> None:
        """Have the history in memory, once."""
        if not self._loaded:
            self._loaded = True
            self._submit(self._load, rows)

    def _put(self, key: str, value: bytes) -> None:
        connection = self._file.connection
        assert connection is not None
        with transaction(connection):
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def _delete(self, key: str) -> None:
        connection = self._file.connection
        assert connection is not None
        with transaction(connection):
            connection.execute("DELETE FROM facts WHERE key = ?", (key,))

    def _keep(self, moment: float, readings: Sequence[Reading]) -> None:
        self._waiting.append((moment, readings))
        if not 0 <= moment - self._written_at < _WRITE_SECONDS:
            self._written_at = moment
            self._file.written(self._flush)
            self._records.write_again()

    def _flush(self) -> None:
        assert self._tables is not None
        assert self._file.connection is not None
        with transaction(self._file.connection):
            for moment, readings in self._waiting:
                self._tables.add(moment, readings)
        self._waiting.clear()


def _log_failure(done: Future[None]) -> None:
    """Nobody waits for it: an error would be lost."""
    if (error := done.exception()) is not None:
        _log.error("history_not_kept", exc_info=error)


def _not_written(error: Exception) -> DomainError:
    """What a caller is told of a fact that is not on disk."""
    return _refused(error, "It holds until the server ends; to keep it longer,")


def _not_accepted(error: Exception) -> DomainError:
    """What a caller is told of a record that is not on disk."""
    if isinstance(error, RuntimeError):  # the thread has ended
        return ShuttingDown()
    return _refused(error, "The work was not accepted; to have it done,")


def _refused(error: Exception, consequence: str) -> DomainError:
    shortage = shortage_of(error)
    if shortage is not None and shortage.reason is not Reason.DISK_FULL:
        return shortage
    if shortage is not None or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return ResourceExhausted(
            f"The journal cannot be written: the disk is full. {consequence} free some space.",
            reason=Reason.DISK_FULL,
        )
    return Unavailable(
        "The journal cannot be written; the server's log says why, under"
        f" journal_not_written. {consequence} mend that.",
        reason=Reason.STORAGE_UNAVAILABLE,
    )
