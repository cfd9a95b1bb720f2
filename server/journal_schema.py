"""The journal's tables: made, brought from version to version, compared with what is there."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

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
        # What is no object of pairs of numbers was damaged, and costs that row its owners.
        "INSERT INTO memory_owners"
        " SELECT place, resolution, start, key, json_extract(value, '$[1]'),"
        "  json_extract(value, '$[0]') * kept.samples"
        " FROM memory_intervals AS kept JOIN memory_history USING (place, resolution, start),"
        "  json_each(iif(json_valid(owners), owners, '{}'))"
        " WHERE kept.samples > 0 AND iif(type = 'array',"
        "  iif(json_type(value, '$[0]') = 'integer', json_type(value, '$[1]'), ''), '')"
        "  = 'integer'",
        "DROP TABLE memory_history",
    ),
    (
        "CREATE TABLE sessions ("
        " number INTEGER PRIMARY KEY, session_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL,"
        " sha256 BLOB NOT NULL)",
    ),
    (
        "CREATE TABLE records ("
        " number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL,"
        " body BLOB NOT NULL, sha256 BLOB NOT NULL, UNIQUE (kind, key))",
        "INSERT INTO records SELECT number, 'session', session_id, body, sha256 FROM sessions",
        "DROP TABLE sessions",
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)


class ForeignSchema(sqlite3.DatabaseError):
    """The file is no journal of this version or an earlier one."""


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


def check(connection: sqlite3.Connection) -> int:
    """The version of a database that has the tables of that version and nothing else.

    Raises:
        ForeignSchema: It is of a later version, or not the journal's at all.
        sqlite3.Error: It cannot be read.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise ForeignSchema(f"version {version} is of a later server")
    if version < 0 or _schema(connection) != _schema_of(version):
        raise ForeignSchema(f"its tables are not those of version {version}")
    return version


def migrate(connection: sqlite3.Connection, version: int = 0) -> None:
    """Bring a database of that version to this one; an empty one is of version 0."""
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        with transaction(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number}")


def _schema_of(version: int) -> set[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                made.execute(statement)
        return _schema(made)


def _schema(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    """What was made by statements; what SQLite keeps for itself, such as statistics, is not."""
    return set(
        connection.execute(
            # As bytes: damaged text need not be UTF-8.
            "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB),"
            " CAST(sql AS BLOB) FROM sqlite_master"
            " WHERE substr(name, 1, 7) != 'sqlite_' OR type NOT IN ('table', 'index')"
        )
    )
