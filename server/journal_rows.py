"""Rows of the journal as they must be; any others are damaged, and left out when they are read.

SQLite finds damage to its own structure. It does not know what a number may be, and a column
takes any type.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from domains.codec import Count, Malformed, ModelId, Name, Text
from domains.heap import without_collections
from domains.records import LARGEST_BYTES
from domains.session.records import SESSION_KIND, KeptSession, record_in

Row = tuple[Any, ...]

_MOST_BYTES = 1 << 48  # of one memory: sums over a day's rows stay within 64 bits
# A key may have a path in it, each of whose 4096 bytes is quoted by three characters at most.
_LONGEST_KEY = 1 << 14
_Resolution = Literal[1, 60, 3_600]
_Start = Annotated[int, Meta(ge=0, le=1 << 37)]  # a moment that has a date
_Samples = Annotated[int, Meta(ge=0, le=4 * 3_600)]
_Bytes = Annotated[int, Meta(ge=0, le=_MOST_BYTES)]
_Sum = Annotated[int, Meta(ge=0, le=_MOST_BYTES * 4 * 3_600)]
_Share = Annotated[float, Meta(ge=0, le=1)]

FACT = tuple[
    Annotated[str, Meta(min_length=1, max_length=_LONGEST_KEY)],
    Annotated[bytes, Meta(max_length=1 << 22)],
]
INTERVAL = tuple[Name, _Resolution, _Start, _Samples, _Bytes, _Sum, _Share | None, Count, Count]
OWNER = tuple[Name, _Resolution, _Start, ModelId, _Bytes, _Sum]
RECORD = tuple[
    Annotated[int, Meta(ge=1, lt=1 << 62)],
    Name,
    Text,  # may be whose it is and what it is called: "mary/my-workflow"
    Annotated[bytes, Meta(max_length=LARGEST_BYTES)],
    Annotated[bytes, Meta(min_length=32, max_length=32)],
]
KINDS = {
    "facts": FACT,
    "memory_intervals": INTERVAL,
    "memory_owners": OWNER,
    "records": RECORD,
}
"""What a row is, by the name of its table."""


@dataclass(frozen=True)
class Rows:
    """Everything that a journal holds and that is as it must be, by table."""

    facts: Sequence[Row] = ()
    memory_intervals: Sequence[Row] = ()
    memory_owners: Sequence[Row] = ()
    records: Sequence[Row] = ()
    sessions: Mapping[str, KeptSession] = field(default_factory=dict)
    """What those of the records that are sessions are, by key. To see that they are as they
    must be is to decode them, which takes most of a start with thousands and is done once."""
    damaged: int = 0
    """How many rows more there are."""


def read(connection: sqlite3.Connection) -> Rows:
    """The rows of a database that has the tables.

    Raises:
        sqlite3.Error: It cannot be read.
    """
    before, connection.text_factory = connection.text_factory, _text
    try:
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in KINDS}
    finally:
        connection.text_factory = before
    sessions: dict[str, KeptSession] = {}
    with without_collections():  # a third of the time, with thousands of sessions
        whole = {
            name: [row for row in found[name] if _is(kind, row, sessions)]
            for name, kind in KINDS.items()
        }
    damaged = sum(len(found[name]) - len(whole[name]) for name in KINDS)
    return Rows(**whole, sessions=sessions, damaged=damaged)


def rewrite(connection: sqlite3.Connection, rows: Rows) -> None:
    """Have these rows in the tables and no others; the caller begins and ends a transaction."""
    for name, kind in KINDS.items():
        connection.execute(f"DELETE FROM {name}")
        marks = ",".join("?" * len(get_args(kind)))
        connection.executemany(f"INSERT INTO {name} VALUES ({marks})", getattr(rows, name))


def _is(kind: Any, row: Row, sessions: dict[str, KeptSession]) -> bool:
    """Whether a row is as it must be; what a session's is comes into `sessions`."""
    try:
        # Otherwise text could stand for bytes.
        msgspec.convert(row, kind, builtin_types=(bytes,))
    except msgspec.ValidationError:
        return False
    if kind is RECORD:
        return _is_record(row, sessions)
    # Of true sums; a larger one would not fit when intervals are put together.
    return kind is FACT or row[-1 if kind is OWNER else 5] <= 4 * row[1] * _MOST_BYTES


def _is_record(row: Row, sessions: dict[str, KeptSession]) -> bool:
    _, kind, key, body, sha256 = row
    if hashlib.sha256(body).digest() != sha256:
        return False
    if kind != SESSION_KIND:
        return True
    try:
        kept = record_in(body)
    except Malformed:
        return False
    if kept[0].session_id != key:
        return False
    sessions[key] = kept
    return True


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:  # it would end the reading of every row after it
        return content
