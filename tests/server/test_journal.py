"""The journal: what is on disk, what a broken disk costs, and what a killed server keeps."""

from __future__ import annotations

import asyncio
import errno
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from domains.errors import Reason, ResourceExhausted, Unavailable
from domains.memory.types import History, HolderUsage, Place, Reading
from server import journal as journal_module
from server import journal_schema
from server.journal import Journal
from server.journal_schema import SCHEMA_VERSION

NOW = 1_900_000_000
CARD = Place("cuda:0")
READING = Reading(
    CARD, 3 << 40, 0.25, {"emoji": 2 << 40, "others": 1 << 40}, evictions=1, out_of_memory=2
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "journal.sqlite"


@pytest.fixture
def reopened(path: Path) -> Iterator[Callable[[], Journal]]:
    """A journal on the same file again; the one before is closed."""
    opened: list[Journal] = []

    def reopen() -> Journal:
        while opened:
            opened.pop().close()
        opened.append(Journal(path))
        opened[-1].open()
        return opened[-1]

    yield reopen
    for journal in opened:
        journal.close()


Reopen = Callable[[], Journal]


def write(journal: Journal, moment: float, *readings: Reading) -> None:
    """Record, and wait until it is on disk or was refused there."""
    written = journal.record(moment, readings)
    assert written is not None
    written.result(60)


def history(journal: Journal, since: float = NOW - 1000) -> dict[Place, History]:
    async def ask() -> tuple[History, ...]:
        return await journal.histories(since, NOW + 1, 1000)

    return {one.place: one for one in asyncio.run(ask())}


def moments(journal: Journal) -> list[int]:
    """When the card was read."""
    found = history(journal).get(CARD, History(CARD)).samples
    return [int(sample.sample_time.timestamp()) for sample in found]


def set_aside(path: Path) -> list[Path]:
    return [
        entry
        for entry in path.parent.glob("journal.sqlite.unusable-*")
        if not entry.name.endswith(("-wal", "-shm"))
    ]


def test_facts_survive(reopened: Reopen) -> None:
    journal = reopened()
    assert journal.get("default_device") is None
    journal.put("default_device", b"cpu:0")
    journal.put("default_device", b"cuda:0")
    journal.put("empty", b"")
    assert journal.get("default_device") == b"cuda:0"
    again = reopened()
    assert again.get("default_device") == b"cuda:0"
    assert again.get("empty") == b""


def test_a_fact_about_a_file_of_the_longest_path_survives(path: Path, reopened: Reopen) -> None:
    key = "model.sha256 " + quote("\u68ee" * (4096 // 3))
    reopened().put(key, b"known")
    assert reopened().get(key) == b"known"
    assert not set_aside(path)


def test_a_fact_that_changes_while_the_file_is_read_again_is_the_newer(
    reopened: Reopen,
) -> None:
    class Interrupted(dict[str, bytes]):
        """The file's thread comes in between."""

        def __setitem__(self, key: str, value: bytes) -> None:
            super().__setitem__(key, value)
            if value == b"new":
                journal._remember({key: b"old"})

        def pop(self, key: str, default: Any = None) -> Any:
            value = super().pop(key, default)
            journal._remember({key: b"old"})
            return value

    for name in ("changed", "forgotten"):
        reopened().put(name, b"old")
    journal = reopened()
    journal._facts = Interrupted(journal._facts)
    journal.put("changed", b"new")
    journal.forget("forgotten")
    assert journal.get("changed") == b"new"
    assert journal.get("forgotten") is None


def test_closing_twice_is_harmless(reopened: Reopen) -> None:
    journal = reopened()
    journal.close()
    journal.close()


def test_a_disk_that_hangs_does_not_hold_up_the_end(path: Path) -> None:
    code = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from server.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "journal.open()\n"
        "journal._thread.submit(threading.Event().wait)\n"
        "threading.Thread(target=journal.close, daemon=True).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60)
    assert done.returncode == 0


def test_what_is_written_outlasts_a_cut_of_power(reopened: Reopen) -> None:
    def pragma(name: str) -> int:
        connection = journal._file.connection
        assert connection is not None
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    journal = reopened()
    found = [journal._thread.submit(pragma, name) for name in ("synchronous", "fullfsync")]
    assert [each.result(60) for each in found] == [2, 1]


def test_history_survives_as_it_was(reopened: Reopen) -> None:
    journal = reopened()
    write(journal, NOW - 1, READING, Reading(Place(), 5))
    write(journal, NOW, READING)
    before = history(journal)
    assert before[CARD].eviction_count == 2
    assert before[CARD].holders[0] == HolderUsage("emoji", 2 << 40, 2 << 40)
    assert history(reopened()) == before


def test_history_goes_to_disk_every_few_seconds_and_at_the_end(
    path: Path, reopened: Reopen
) -> None:
    journal = reopened()
    on_disk = []
    for second in range(7):
        write(journal, NOW - 10 + second, READING)
        with sqlite3.connect(path) as connection:
            found = connection.execute("SELECT count(*) FROM memory_intervals").fetchone()
        connection.close()
        on_disk.append(found[0])
    assert on_disk == [1, 1, 1, 1, 1, 6, 6]
    assert len(moments(journal)) == 7
    assert len(moments(reopened())) == 7


def test_history_is_there_before_the_file_is_read(path: Path) -> None:
    path.parent.mkdir()
    early = Journal(path)
    write(early, NOW - 2, READING)
    assert moments(early) == [NOW - 2]
    early.close()
    late = Journal(path)
    late.record(NOW - 1, [READING])
    late.open()
    late.record(NOW, [READING])
    assert moments(late) == [NOW - 2, NOW - 1, NOW]
    late.close()
    assert late.record(NOW, [READING]) is None


def test_what_is_too_old_is_not_on_disk_either(path: Path, reopened: Reopen) -> None:
    journal = reopened()
    write(journal, NOW - 31 * 86_400, READING)
    write(journal, NOW, READING)
    reopened()
    with sqlite3.connect(path) as connection:
        starts = connection.execute("SELECT start FROM memory_intervals").fetchall()
        owners = connection.execute("SELECT DISTINCT start FROM memory_owners").fetchall()
    connection.close()
    assert starts == owners == [(NOW,)]


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 9000]
)
def test_a_corrupt_file_is_set_aside(path: Path, reopened: Reopen, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    journal = reopened()
    journal.put("key", b"value")
    assert [entry.read_bytes() for entry in set_aside(path)] == [content]
    assert reopened().get("key") == b"value"


def test_a_page_damaged_inside_is_noticed_at_the_start(path: Path, reopened: Reopen) -> None:
    journal = reopened()
    for age in range(200, 0, -1):
        write(journal, NOW - age, READING)
    reopened().close()
    damaged = bytearray(path.read_bytes())
    page = 4096
    for start in range(2 * page, len(damaged), page):
        damaged[start : start + 64] = b"\xff" * 64
    path.write_bytes(damaged)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert history(reopened()) == {}
    assert len(set_aside(path)) == 1


def test_a_folder_in_its_place_is_set_aside(path: Path, reopened: Reopen) -> None:
    path.mkdir(parents=True)
    journal = reopened()
    journal.put("key", b"value")
    assert path.is_file()
    assert [entry.is_dir() for entry in set_aside(path)] == [True]


def test_a_file_of_a_later_version_is_kept_aside(path: Path, reopened: Reopen) -> None:
    reopened().put("key", b"later")
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    assert reopened().get("key") is None
    assert len(set_aside(path)) == 1


def test_an_older_file_is_migrated(
    path: Path, reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    reopened().put("key", b"kept")
    later = (*journal_schema.MIGRATIONS, ("CREATE TABLE more (key TEXT)",))
    monkeypatch.setattr(journal_schema, "MIGRATIONS", later)
    monkeypatch.setattr(journal_schema, "SCHEMA_VERSION", len(later))
    assert reopened().get("key") == b"kept"
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT * FROM more").fetchall() == []
        assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)
    connection.close()
    assert set_aside(path) == []


def test_history_of_the_first_version_is_taken_up_and_counted_once(
    path: Path, reopened: Reopen
) -> None:
    """There every reading was in an interval of each resolution."""
    path.parent.mkdir()
    minute, hour = NOW // 60 * 60, NOW // 3_600 * 3_600
    owners = '{"emoji": [40, 60]}'
    with sqlite3.connect(path) as connection:
        for statement in journal_schema.MIGRATIONS[0]:
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO memory_history VALUES (?,?,?,?,?,?,?,?,?,?)",
            [
                ("cuda:0", 1, minute, 100, 100, 1, 0.5, owners, 1, 0),
                ("cuda:0", 60, minute, 100, 100, 1, 0.5, owners, 1, 0),
                ("cuda:0", 60, minute - 60, 90, 80, 60, None, owners, 0, 2),
                ("cuda:0", 3_600, hour, 100, 80, 61, 0.5, owners, 1, 2),
                ("host", 3_600, hour, 7, 7, 10, None, "{}", 0, 0),
            ],
        )
        connection.execute("PRAGMA user_version=1")
    connection.close()
    found = history(reopened(), since=hour)
    card = found[CARD]
    assert (card.eviction_count, card.out_of_memory_count) == (1, 2)
    assert [sample.used_bytes for sample in card.samples] == [90, 100]
    assert (card.p50_bytes, card.peak_bytes, card.fragmentation_p95) == (80, 100, 0.5)
    assert card.holders == (HolderUsage("emoji", 40, 60),)
    assert found[Place()].peak_bytes == 7
    assert set_aside(path) == []


def test_a_failed_migration_leaves_the_version_before(
    path: Path, reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    reopened().put("key", b"kept")
    broken = (*journal_schema.MIGRATIONS, ("CREATE TABLE more (key TEXT)", "NONSENSE"))
    reopened().close()
    journal = Journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(journal_schema, "MIGRATIONS", broken)
        patch.setattr(journal_schema, "SCHEMA_VERSION", len(broken))
        with pytest.raises(Unavailable) as caught:
            journal.put("other", b"value")
        assert caught.value.reason is Reason.STORAGE_UNAVAILABLE
    journal.close()
    again = reopened()
    assert again.get("key") == b"kept"
    with sqlite3.connect(path) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert ("more",) not in names


def fill_disk(journal: Journal) -> None:
    """Have SQLite refuse to grow the file, until it is opened again."""

    def limit() -> None:
        assert journal._file.connection is not None
        pages = journal._file.connection.execute("PRAGMA page_count").fetchone()[0]
        journal._file.connection.execute(f"PRAGMA max_page_count={pages}")

    journal._thread.submit(limit).result()


def test_history_waits_for_a_full_disk(path: Path, reopened: Reopen) -> None:
    journal = reopened()
    write(journal, NOW - 20, READING)
    fill_disk(journal)
    many = [Reading(Place(f"cuda:{number}"), 5) for number in range(1, 500)]
    write(journal, NOW - 10, READING, *many)
    assert len(history(journal)) == 500
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT place, start FROM memory_intervals").fetchall()
    connection.close()
    assert found == [("cuda:0", NOW - 20)]
    write(journal, NOW, READING)
    before = history(journal)
    assert before[CARD].eviction_count == 3  # the file was opened twice and read once
    assert history(reopened()) == before
    assert set_aside(path) == []


def test_history_that_waits_is_bounded(
    reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_MOST_WAITING", 100)
    journal = reopened()

    def refuse(write: object) -> Exception:
        return OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal._file, "written", refuse)
        for age in range(500, 0, -1):
            write(journal, NOW - age, READING)
    assert len(moments(journal)) == 500
    assert moments(reopened()) == list(range(NOW - 100, NOW))


def test_a_fact_that_a_full_disk_refuses_is_told_and_written_later(reopened: Reopen) -> None:
    journal = reopened()
    fill_disk(journal)
    large = b"x" * 100_000
    with pytest.raises(ResourceExhausted) as caught:
        journal.put("large", large)
    assert caught.value.reason is Reason.DISK_FULL
    assert journal.get("large") == large
    journal.put("small", b"y")
    again = reopened()
    assert again.get("large") == large
    assert again.get("small") == b"y"


def test_damage_while_running_costs_the_history_and_no_fact(
    path: Path, reopened: Reopen
) -> None:
    journal = reopened()
    journal.put("key", b"value")

    def damage() -> None:
        assert journal._file.connection is not None
        journal._file.connection.close()
        journal._file.connection = None
        path.write_bytes(b"garbage" * 1000)

    journal._thread.submit(damage).result()
    write(journal, NOW - 10, READING)
    write(journal, NOW, READING)
    assert moments(journal) == [NOW - 10, NOW]
    assert len(set_aside(path)) == 1
    assert reopened().get("key") == b"value"


_CHILD = """
import sys
from pathlib import Path
from domains.memory.types import Place, Reading
from server.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.open()
journal.put("key", b"value")
journal.record(int(sys.argv[2]), [Reading(Place(), 5)]).result()
print("written", flush=True)
number = 0
while True:
    number += 1
    journal.put(f"more{number % 50}", b"x" * 1000)
"""


def test_a_killed_server_loses_nothing_that_was_written(path: Path, reopened: Reopen) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path), str(NOW)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"written\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    journal = reopened()
    assert journal.get("key") == b"value"
    assert history(journal)[Place()].peak_bytes == 5
    assert set_aside(path) == []
