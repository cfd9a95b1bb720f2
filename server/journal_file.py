"""The journal's file: opened, brought to this version, set aside when it is of no use."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

# Each entry brings a journal one version further; a new one begins at version 0.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE facts (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE memory_history ("
        " place TEXT, resolution INTEGER, start INTEGER, peak_bytes INTEGER NOT NULL,"
        " mean_bytes INTEGER NOT NULL, samples INTEGER NOT NULL, fragmentation REAL,"
        " owners TEXT NOT NULL, evictions INTEGER NOT NULL, out_of_memory INTEGER NOT NULL,"
        " PRIMARY KEY (place, resolution, start)) WITHOUT ROWID",
    ),
    (
        "CREATE TABLE memory_intervals ("
        " place TEXT, resolution INTEGER, start INTEGER, samples INTEGER NOT NULL,"
        " peak_bytes INTEGER NOT NULL, sum_bytes INTEGER NOT NULL, fragmentation REAL,"
        " evictions INTEGER NOT NULL, out_of_memory INTEGER NOT NULL,"
        " PRIMARY KEY (place, resolution, start)) WITHOUT ROWID",
        "CREATE TABLE memory_owners ("
        " place TEXT, resolution INTEGER, start INTEGER, owner TEXT,"
        " peak_bytes INTEGER NOT NULL, sum_bytes INTEGER NOT NULL,"
        " PRIMARY KEY (place, resolution, start, owner)) WITHOUT ROWID",
        # Coarse intervals held what finer ones inside them did; now only what those do not.
        "INSERT INTO memory_intervals"
        " SELECT place, resolution, start, samples - s, peak_bytes,"
        "  mean_bytes * (samples - s), fragmentation, evictions - e, out_of_memory - o"
        " FROM (SELECT held.*, coalesce(sum(finer.samples), 0) AS s,"
        "  coalesce(sum(finer.evictions), 0) AS e, coalesce(sum(finer.out_of_memory), 0) AS o"
        "  FROM memory_history AS held LEFT JOIN memory_history AS finer"
        "   ON finer.place = held.place"
        "   AND finer.resolution = CASE held.resolution WHEN 3600 THEN 60 WHEN 60 THEN 1 END"
        "   AND finer.start BETWEEN held.start AND held.start + held.resolution - 1"
        "  GROUP BY held.place, held.resolution, held.start)"
        " WHERE max(samples - s, evictions - e, out_of_memory - o) > 0",
        "INSERT INTO memory_owners"
        " SELECT place, resolution, start, key, json_extract(value, '$[1]'),"
        "  json_extract(value, '$[0]') * kept.samples"
        " FROM memory_intervals AS kept JOIN memory_history USING (place, resolution, start),"
        "  json_each(owners) WHERE kept.samples > 0",
        "DROP TABLE memory_history",
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)
# SQLite's primary result codes (https://www.sqlite.org/rescode.html) that say that the
# file itself is of no use; others, such as a full disk, say nothing about it.
_UNUSABLE = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}
    | {sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)

_log = structlog.get_logger("deviceops.journal")


class _Foreign(sqlite3.DatabaseError):
    """The file is of a later version than this server knows."""


class JournalFile:
    """One SQLite file, whatever becomes of it. Belongs to one thread.

    Args:
        path: Where it is.
        opened: Told of each connection to a file that is usable, before it is used.
    """

    def __init__(self, path: Path, opened: Callable[[sqlite3.Connection], None]) -> None:
        self._path = path
        self._opened = opened
        self.connection: sqlite3.Connection | None = None
        self._complained = False

    def written(self, write: Callable[[], None]) -> bool:
        """Do `write`, in a new file if the old one turns out unusable; whether it worked."""
        for attempt in (1, 2):
            try:
                self._connect()
                write()
            except sqlite3.Error as error:
                self.close()
                if attempt == 2 or not _unusable(error):
                    return self._complain(error)
                if not self._set_aside(error):
                    return False
            else:
                self._complained = False
                return True
        return False

    def _connect(self) -> None:
        if self.connection is not None:
            return
        # Transactions are begun and ended by `transaction` alone.
        connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None)
        self.connection = connection
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        migrate(connection)
        problems = connection.execute("PRAGMA quick_check(1)").fetchall()
        if problems != [("ok",)]:
            error = sqlite3.DatabaseError(problems[0][0])
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        self._opened(connection)

    def close(self) -> None:
        """Let go of the file; the next `written` opens it again."""
        if self.connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()
            self.connection = None

    def _set_aside(self, error: sqlite3.Error) -> bool:
        """Rename the file and what SQLite keeps beside it; whether that worked."""
        aside = self._path.with_name(f"{self._path.name}.unusable-{time.time_ns()}")
        try:
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                beside = self._path.with_name(self._path.name + suffix)
                if beside.exists():
                    beside.rename(aside.with_name(aside.name + suffix))
        except OSError:
            return self._complain(error)
        _log.warning("journal_set_aside", why=str(error), kept_as=aside.name)
        return True

    def _complain(self, error: sqlite3.Error) -> bool:
        if not self._complained:
            self._complained = True
            _log.error("journal_not_written", why=str(error))
        return False


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing of what the connection does within."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # SQLite has rolled back by itself after some errors.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to this version; a new one begins at version 0.

    Raises:
        sqlite3.DatabaseError: It is of a later version than this server knows.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise _Foreign(f"version {version} is of a later server")
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        with transaction(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number}")


def _unusable(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, _Foreign) or (code is not None and code & 0xFF in _UNUSABLE)
