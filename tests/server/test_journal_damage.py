"""A journal that was damaged: served without what is of no use, and nothing else is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import resource
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from domains.errors import Reason, ResourceExhausted, Unavailable
from domains.memory.types import Place, Reading
from server import journal_schema
from server.journal import Journal
from server.journal_file import look
from tests.odd_files import ODD

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform == "win32", reason="files of POSIX systems"),
]

NOW = 1_900_000_000
CARD = Place("cuda:0")
FLIPPED_FILES = 150

Statement = tuple[str, tuple[object, ...]]
OPEN_INTERVAL = "INSERT INTO memory_intervals VALUES (?,?,?,?,?,?,?,?,?)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with a fact, and history of two places."""
    path = tmp_path / "data" / "journal.sqlite"
    with opened(path) as journal:
        journal.put("key", b"value")
        for age in range(30, 0, -1):
            written = journal.record(
                NOW - age, [Reading(CARD, 1 << 30, 0.5, {"emoji": 5}), Reading(Place(), 7)]
            )
        assert written is not None
        written.result(60)
    return path


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    try:
        journal.open()
        yield journal
    finally:
        journal.close()


def change(path: Path, *statements: Statement) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement, values in statements:
            connection.execute(statement, values)


def samples(journal: Journal) -> dict[str, int]:
    """How many moments of each place are known."""
    found = asyncio.run(journal.histories(NOW - 1000, NOW + 1, 1000))
    return {one.place.device_id: len(one.samples) for one in found}


def aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*.unusable-*"))


def content(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump())


DAMAGED_ROWS: dict[str, Statement] = {
    "a fact that is a number": ("INSERT INTO facts VALUES (?, ?)", ("device.known", 5)),
    "a fact that is text": ("INSERT INTO facts VALUES (?, ?)", ("device.default", "cpu:0")),
    "a fact that is text for bytes": ("INSERT INTO facts VALUES (?, ?)", ("x", "dGV4dA==")),
    "a fact without a name": ("INSERT INTO facts VALUES (?, ?)", ("", b"x")),
    "a fact without end": ("INSERT INTO facts VALUES (?, zeroblob(?))", ("x", 5 << 20)),
    "a fact whose name is no text": (
        "INSERT INTO facts VALUES (CAST(? AS TEXT), ?)",
        (b"\xff\xfe", b"x"),
    ),
    "bytes that are text": (OPEN_INTERVAL, ("cuda:0", 1, NOW, 1, "abc", 5, None, 0, 0)),
    "bytes that are a share": (OPEN_INTERVAL, ("cuda:0", 1, NOW, 1, 2.5, 5, None, 0, 0)),
    "bytes below zero": (OPEN_INTERVAL, ("cuda:0", 1, NOW, 1, -1, 5, None, 0, 0)),
    "more bytes than there are": (OPEN_INTERVAL, ("cuda:0", 1, NOW, 1, 5, 1 << 62, None, 0, 0)),
    "a place that is no name": (OPEN_INTERVAL, ("../x y", 1, NOW, 1, 5, 5, None, 0, 0)),
    "a place that is bytes": (OPEN_INTERVAL, (b"cuda:0", 1, NOW, 1, 5, 5, None, 0, 0)),
    "a moment without a date": (OPEN_INTERVAL, ("cuda:0", 1, 1 << 62, 1, 5, 5, None, 0, 0)),
    "a resolution of nobody": (OPEN_INTERVAL, ("cuda:0", 7, NOW, 1, 5, 5, None, 0, 0)),
    "a share beyond one": (OPEN_INTERVAL, ("cuda:0", 1, NOW, 1, 5, 5, 1e300, 0, 0)),
    "samples below zero": (OPEN_INTERVAL, ("cuda:0", 1, NOW, -5, 5, 5, None, 0, 0)),
    "an owner on two lines": (
        "INSERT INTO memory_owners VALUES (?,?,?,?,?,?)",
        ("cuda:0", 1, NOW, "a\nb", 5, 5),
    ),
}


@pytest.mark.parametrize("name", DAMAGED_ROWS)
def test_a_damaged_row_costs_itself_alone(
    path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(path, DAMAGED_ROWS[name])
    with opened(path) as journal:
        assert journal.get("key") == b"value"
        assert journal.get(str(DAMAGED_ROWS[name][1][0])) is None
        assert samples(journal) == {"cuda:0": 30, "": 30}
    with opened(path) as journal:  # once, and not at each start
        assert samples(journal) == {"cuda:0": 30, "": 30}
    [kept] = aside(path)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert (look(kept).damaged, look(path).damaged) == (1, 0)


def test_damaged_rows_are_logged_once_with_their_number(
    path: Path, log_lines: list[dict[str, Any]]
) -> None:
    change(path, *(DAMAGED_ROWS[name] for name in list(DAMAGED_ROWS)[:4]))
    for _ in range(2):
        with opened(path):
            pass
    [line] = [line for line in log_lines if line["event"] == "journal_rows_left_out"]
    assert line["count"] == 4
    assert line["kept_as"] == aside(path)[0].name


def test_damaged_rows_are_left_out_also_where_there_is_no_room_for_a_copy(
    path: Path, log_lines: list[dict[str, Any]]
) -> None:
    change(path, DAMAGED_ROWS["a fact that is a number"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with opened(path) as journal:
            assert journal.get("key") == b"value"
            assert journal.get("device.known") is None
            assert samples(journal)["cuda:0"] == 30
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert aside(path) == []


FOREIGN: dict[str, list[Statement]] = {
    "a table is missing": [("DROP TABLE facts", ())],
    "a table has other columns": [
        ("DROP TABLE facts", ()),
        ("CREATE TABLE facts (id INTEGER, text TEXT)", ()),
    ],
    "a table more": [("CREATE TABLE more (x)", ())],
    "a view in a table's place": [
        ("DROP TABLE facts", ()),
        ("CREATE VIEW facts AS SELECT 'a' AS key, x'' AS value", ()),
    ],
    "something happens at each change": [
        ("CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM facts; END", ())
    ],
    "a version below all": [("PRAGMA user_version=-1", ())],
    "a version before its tables": [("PRAGMA user_version=1", ())],
    "no version": [("PRAGMA user_version=0", ())],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_tables_that_are_not_ours_are_set_aside_unchanged(path: Path, name: str) -> None:
    change(path, *FOREIGN[name])
    before = content(path)
    with opened(path) as journal:
        assert journal.get("key") is None
        journal.put("key", b"new")
        assert samples(journal) == {}
    [kept] = aside(path)
    assert content(kept) == before
    with opened(path) as journal:
        assert journal.get("key") == b"new"


def test_a_database_of_somebody_else_is_not_touched(path: Path) -> None:
    path.unlink()
    change(path, ("CREATE TABLE photos (name TEXT)", ()))
    before = path.read_bytes()
    with opened(path) as journal:
        journal.put("key", b"new")
    [kept] = aside(path)
    assert kept.read_bytes() == before


def test_statistics_of_sqlite_are_no_damage(path: Path) -> None:
    change(path, ("ANALYZE", ()))
    with opened(path) as journal:
        assert journal.get("key") == b"value"
    assert aside(path) == []


@pytest.mark.parametrize(
    "owners", ['x"emoji": [1, 2]}', "[1]", '{"a": [1]}', '{"a": "b"}', '{"a": 5}', "5", ""]
)
def test_a_damaged_row_of_the_first_version_costs_its_owners(path: Path, owners: str) -> None:
    path.unlink()
    change(
        path,
        *((statement, ()) for statement in journal_schema.MIGRATIONS[0]),
        ("INSERT INTO facts VALUES (?, ?)", ("key", b"value")),
        (
            "INSERT INTO memory_history VALUES (?,?,?,?,?,?,?,?,?,?)",
            ("cuda:0", 60, NOW // 60 * 60, 5, 5, 1, None, owners, 0, 0),
        ),
        ("PRAGMA user_version=1", ()),
    )
    with opened(path) as journal:
        assert journal.get("key") == b"value"
        assert samples(journal) == {"cuda:0": 1}
    assert aside(path) == []


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_what_is_no_file_is_set_aside(path: Path, suffix: str, kind: str) -> None:
    place = path.with_name(path.name + suffix)
    place.unlink(missing_ok=True)
    ODD[kind](place)
    was = place.lstat().st_ino
    with opened(path) as journal:
        journal.put("more", b"more")
    [kept] = aside(path)
    assert kept.lstat().st_ino == was
    with opened(path) as journal:
        assert journal.get("more") == b"more"
        assert (journal.get("key") == b"value") == bool(suffix)
    assert path.is_file()
    assert not path.is_symlink()


def test_nobody_else_can_read_it(path: Path) -> None:
    path.unlink()
    before = os.umask(0)
    try:
        with opened(path) as journal:
            journal.put("key", b"value")
            names = sorted(entry.name for entry in path.parent.iterdir())
            assert names == [path.name, f"{path.name}-shm", f"{path.name}-wal"]
            for entry in path.parent.iterdir():
                assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_one_that_others_could_read_is_closed_to_them(
    path: Path, log_lines: list[dict[str, Any]]
) -> None:
    path.chmod(0o644)
    for _ in range(2):
        with opened(path) as journal:
            assert journal.get("key") == b"value"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [line["event"] for line in log_lines] == ["journal_made_private"]


def test_without_file_handles_it_is_left_and_taken_up_later(path: Path) -> None:
    """A file that cannot be opened for lack of handles is not damaged."""
    journal = Journal(path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(path.parent, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        journal.open()
        with pytest.raises(ResourceExhausted) as refused:
            journal.put("other", b"x")
        assert refused.value.reason is Reason.HOST_LIMIT_REACHED
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    written = journal.record(NOW, [Reading(CARD, 1)])
    assert written is not None
    written.result(60)
    assert journal.get("key") == b"value"
    assert samples(journal)["cuda:0"] == 31
    journal.close()
    assert aside(path) == []
    with opened(path) as again:
        assert again.get("other") == b"x"


def test_one_that_another_program_holds_is_no_full_disk(path: Path) -> None:
    with opened(path) as journal:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as refused:
            journal.put("key", b"later")
        assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
        other.execute("COMMIT")
        other.close()
        journal.put("other", b"x")
    assert aside(path) == []
    with opened(path) as again:
        assert again.get("key") == b"later"


def remove(path: Path) -> None:
    path.unlink()


def remove_all(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("go", [remove, remove_all, replace])
def test_one_that_goes_while_running_is_made_again_with_every_fact(
    path: Path, go: Callable[[Path], None]
) -> None:
    with opened(path) as journal:
        go(path)
        journal.put("other", b"x")
        assert path.is_file()
    with opened(path) as again:
        assert (again.get("key"), again.get("other")) == (b"value", b"x")


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(part, marks=pytest.mark.matrix) for part in range(1, 5))]
)
def test_whatever_bytes_are_damaged_it_serves(
    path: Path, part: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes changed at random, in the file and in what is not yet in it, by seed."""
    caplog.set_level(logging.CRITICAL)
    whole = path.read_bytes()
    for seed in range(part, FLIPPED_FILES, 5):
        chance = random.Random(seed)
        damaged = bytearray(whole)
        # The first bytes and pages say what the rest is; half of the damage goes there.
        end = chance.choice((100, 4096, len(damaged), len(damaged)))
        for _ in range(chance.choice((1, 1, 4, 30))):
            damaged[chance.randrange(end)] = chance.randrange(256)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        for entry in (*aside(path), *path.parent.glob("*-wal"), *path.parent.glob("*-shm")):
            entry.unlink()
        if chance.random() < 0.3:
            path.with_name(path.name + "-wal").write_bytes(chance.randbytes(8_000))
        if chance.random() < 0.3:
            path.with_name(path.name + "-journal").write_bytes(chance.randbytes(8_000))
        with opened(path) as journal:
            journal.put("mine", b"kept")
            assert all(isinstance(value, bytes) for value in journal._facts.values()), seed
            samples(journal)
            written = journal.record(NOW, [Reading(CARD, 1)])
            assert written is not None
            written.result(60)
        with opened(path) as journal:
            assert journal.get("mine") == b"kept", seed
