"""The journal's file: opened, brought to this version, set aside when it is of no use."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from domains.regular_files import NotRegular, open_regular
from domains.set_aside import set_aside
from server import journal_rows, journal_schema
from server.journal_schema import ForeignSchema, transaction

BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside its file, by the ends of the names."""
_BUSY_SECONDS = 1.0
_SOME_BYTES = 4096
# SQLite's primary result codes (https://www.sqlite.org/rescode.html) that say nothing about
# the file: the disk, the memory, the handles, or another program is why.
_CIRCUMSTANCES = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN}
    | {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
    | {sqlite3.SQLITE_INTERRUPT}
)
# Those that say, of statements that are right, that the file is of no use.
_UNUSABLE = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
    | {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
)

_log = structlog.get_logger("deviceops.journal")


class JournalFile:
    """One SQLite file, whatever becomes of it. Belongs to one thread.

    Args:
        path: Where it is; its folder is made when missing.
        opened: Told of each connection to a file that is usable, and of the rows in it that are
            as they must be, before it is used.
    """

    def __init__(
        self, path: Path, opened: Callable[[sqlite3.Connection, journal_rows.Rows], None]
    ) -> None:
        self._path = path
        self._opened = opened
        self.connection: sqlite3.Connection | None = None
        self._inode = 0
        self._complained = False

    def written(self, write: Callable[[], None]) -> Exception | None:
        """Do `write`, in a new file if the old one turns out unusable; why it did not work."""
        for attempt in (1, 2):
            try:
                self._connect()
                write()
            except (sqlite3.Error, OSError, MemoryError) as error:
                self.close()
                if attempt == 2 or not _unusable(error):
                    return self._complain(error)
                try:
                    self._set_aside(error)
                except OSError:
                    return self._complain(error)
            else:
                self._complained = False
                return None
        return None

    def close(self) -> None:
        """Let go of the file; the next `written` opens it again."""
        if self.connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()
            self.connection = None

    def _connect(self) -> None:
        if self.connection is not None and self._inode != _inode(self._path):
            self.close()  # it was deleted or replaced: what is written now would be lost
        if self.connection is not None:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for suffix in BESIDE:
            self._refuse_odd(self._path.with_name(self._path.name + suffix))
        _make_private(self._path)
        # Transactions are begun and ended by `transaction` alone.
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        self.connection = connection
        version = _examine(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")  # of macOS; see `whole_files`
        journal_schema.migrate(connection, version)
        rows = journal_rows.read(connection)
        if rows.damaged:
            self._leave_out(connection, rows)
        self._inode = _inode(self._path)
        self._opened(connection, rows)

    def _refuse_odd(self, path: Path) -> None:
        """Set aside what lies where SQLite keeps a file of its own and is none."""
        try:
            _make_private(path, only_existing=True)
        except NotRegular:
            set_aside(path, "it is no regular file")

    def _leave_out(self, connection: sqlite3.Connection, rows: journal_rows.Rows) -> None:
        """Keep a copy of a file with damaged rows, and go on with the others."""
        copy = self._path.with_name(f"{self._path.name}.unusable-{time.time_ns()}")
        try:
            os.close(open_regular(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL))
            connection.execute("VACUUM INTO ?", (str(copy),))
            with transaction(connection):
                journal_rows.rewrite(connection, rows)
        except (sqlite3.Error, OSError) as error:
            # They stay, and are left out whenever the file is read.
            with contextlib.suppress(OSError):
                copy.unlink(missing_ok=True)
            _log.warning("journal_rows_left_out", count=rows.damaged, not_copied=str(error))
        else:
            _log.warning("journal_rows_left_out", count=rows.damaged, kept_as=copy.name)

    def _set_aside(self, error: Exception) -> None:
        """Rename the file and what SQLite keeps beside it."""
        aside = set_aside(self._path, str(error))
        for suffix in BESIDE:
            beside = self._path.with_name(self._path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                beside.rename(aside.with_name(aside.name + suffix))

    def _complain(self, error: Exception) -> Exception:
        if _code(error) == sqlite3.SQLITE_IOERR and error.__cause__ is None:
            error.__cause__ = _write_problem(self._path.parent)
        if not self._complained:
            self._complained = True
            _log.error("journal_not_written", why=str(error) or type(error).__name__)
        return error


def look(path: Path) -> journal_rows.Rows:
    """What a journal of this version holds; nothing is written, not even beside it.

    A server may have it open. Where that cannot be read without writing, only what a server
    has not yet put into the file itself is not seen.

    Raises:
        ForeignSchema: It is of no use, or of another version.
        sqlite3.Error: It cannot be read.
        OSError: There is none, it is no regular file, or it may not be read.
    """
    os.close(open_regular(path))
    try:
        beside = path.with_name(f"{path.name}-wal").lstat()
        if stat.S_ISREG(beside.st_mode) and beside.st_size:
            return _read_only(path, "mode=ro")
    except (OSError, sqlite3.OperationalError):
        pass
    return _read_only(path, "mode=ro&immutable=1")


def _read_only(path: Path, how: str) -> journal_rows.Rows:
    where = f"{path.absolute().as_uri()}?{how}"
    with contextlib.closing(sqlite3.connect(where, uri=True)) as connection:
        version = _examine(connection)
        if version != journal_schema.SCHEMA_VERSION:
            raise ForeignSchema(f"it is of version {version}")
        return journal_rows.read(connection)


def _examine(connection: sqlite3.Connection) -> int:
    """The version of a database that is whole and is a journal; nothing is changed.

    Raises:
        ForeignSchema: It is of no use.
        sqlite3.Error: It cannot be read now.
    """
    try:
        version = journal_schema.check(connection)
        problems = connection.execute("PRAGMA quick_check(1)").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:  # a message about damaged text
        if _code(error) in _CIRCUMSTANCES:
            raise
        raise ForeignSchema(str(error)) from error
    if problems != [("ok",)]:
        raise ForeignSchema(str(problems[0][0]))
    return version


def _make_private(path: Path, *, only_existing: bool = False) -> None:
    """Have a file there that nobody else can read; what SQLite makes beside it follows it.

    Not while SQLite has it open: closing any handle of it would end SQLite's locks.

    Raises:
        NotRegular: Something else lies there.
        OSError: It may not be written, or there is no room for it.
    """
    try:
        handle = open_regular(path, os.O_RDWR | (0 if only_existing else os.O_CREAT))
    except FileNotFoundError:
        if only_existing:
            return
        raise
    try:
        if sys.platform != "win32" and os.fstat(handle).st_mode & 0o077:
            os.fchmod(handle, 0o600)
            _log.warning("journal_made_private", file=path.name)
    finally:
        os.close(handle)


def _write_problem(folder: Path) -> OSError | None:
    """What the system says of a file that is written there: SQLite tells only of a full disk,
    and not where files may not grow."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_SOME_BYTES))
            file.flush()
    except OSError as error:
        return error
    return None


def _inode(path: Path) -> int:
    """What tells a file from one that takes its place; 0 when there is none."""
    try:
        return path.lstat().st_ino
    except OSError:
        return 0


def _code(error: Exception) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _unusable(error: Exception) -> bool:
    if isinstance(error, ForeignSchema | NotRegular | PermissionError):
        return True
    return _code(error) in _UNUSABLE
