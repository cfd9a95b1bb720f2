"""The journal: what is on disk, what a broken disk costs, and what a killed server keeps."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from domains.errors import Reason, ResourceExhausted
from domains.memory.types import MemoryInterval, OwnerInterval
from server import journal as journal_module
from server import journal_file
from server.journal import Journal
from server.journal_file import SCHEMA_VERSION

NOW = int(time.time())
INTERVAL = MemoryInterval(
    place="cuda:0",
    resolution=1,
    start=NOW,
    peak_bytes=3 << 40,
    mean_bytes=2 << 40,
    samples=2,
    fragmentation=0.25,
    owners={"emoji": OwnerInterval(1, 2), "others": OwnerInterval(3, 4)},
    evictions=1,
    out_of_memory=2,
)
KEEP = {1: 600, 60: 86_400}


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
        # Its clock stands still: what tests write must not age while others run.
        opened.append(Journal(path, now=lambda: NOW))
        opened[-1].open()
        return opened[-1]

    yield reopen
    for journal in opened:
        journal.close()


Reopen = Callable[[], Journal]


def write(journal: Journal, *intervals: MemoryInterval) -> None:
    journal.write_history(intervals, keep=KEEP).result(10)


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


def test_closing_twice_is_harmless(reopened: Reopen) -> None:
    journal = reopened()
    journal.close()
    journal.close()


def test_history_survives_as_it_was(reopened: Reopen) -> None:
    silent = replace(INTERVAL, place="host", fragmentation=None, owners={})
    write(reopened(), INTERVAL, silent)
    assert list(reopened().history()) == [INTERVAL, silent]


def test_an_interval_replaces_its_earlier_self(reopened: Reopen) -> None:
    journal = reopened()
    write(journal, INTERVAL)
    grown = replace(INTERVAL, samples=3)
    write(journal, grown)
    assert list(journal.history()) == [grown]


def test_what_is_too_old_goes(reopened: Reopen) -> None:
    journal = reopened()
    old = replace(INTERVAL, start=NOW - 700)
    minute = replace(old, resolution=60)
    odd = replace(INTERVAL, resolution=7)
    write(journal, old, minute, odd, INTERVAL)
    assert list(journal.history()) == [INTERVAL, minute]


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
    write(reopened(), *(replace(INTERVAL, start=NOW - age) for age in range(200)))
    reopened().close = lambda: None  # type: ignore[method-assign]
    damaged = bytearray(path.read_bytes())
    page = 4096
    for start in range(2 * page, len(damaged), page):
        damaged[start : start + 64] = b"\xff" * 64
    path.write_bytes(damaged)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert list(reopened().history()) == []
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
    later = (*journal_file.MIGRATIONS, ("CREATE TABLE more (key TEXT)",))
    monkeypatch.setattr(journal_file, "MIGRATIONS", later)
    monkeypatch.setattr(journal_file, "SCHEMA_VERSION", len(later))
    assert reopened().get("key") == b"kept"
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT * FROM more").fetchall() == []
        assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)
    connection.close()
    assert set_aside(path) == []


def test_a_failed_migration_leaves_the_version_before(
    path: Path, reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    reopened().put("key", b"kept")
    broken = (*journal_file.MIGRATIONS, ("CREATE TABLE more (key TEXT)", "NONSENSE"))
    with monkeypatch.context() as patch:
        patch.setattr(journal_file, "MIGRATIONS", broken)
        patch.setattr(journal_file, "SCHEMA_VERSION", len(broken))
        with pytest.raises(ResourceExhausted):
            reopened().put("other", b"value")
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
    many = [replace(INTERVAL, start=NOW - age) for age in range(500)]
    fill_disk(journal)
    write(journal, *many)
    assert list(journal.history()) == []
    write(journal, INTERVAL)
    assert len(journal.history()) == len(many)
    assert set_aside(path) == []


def test_history_that_waits_is_bounded(
    reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_MOST_WAITING", 100)
    journal = reopened()
    fill_disk(journal)
    write(journal, *(replace(INTERVAL, start=NOW - age) for age in range(500, 0, -1)))
    write(journal)
    assert [interval.start for interval in journal.history()] == list(range(NOW - 100, NOW))


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
    write(journal, INTERVAL)
    assert list(journal.history()) == [INTERVAL]
    assert len(set_aside(path)) == 1
    assert reopened().get("key") == b"value"


_CHILD = """
import sys, time
from pathlib import Path
from domains.memory.types import MemoryInterval
from server.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.open()
journal.put("key", b"value")
now = int(time.time())
journal.write_history(
    [MemoryInterval("host", 1, now, 5, 5, 1)], keep={1: 600}
).result()
print("written", flush=True)
number = 0
while True:
    number += 1
    journal.put(f"more{number % 50}", b"x" * 1000)
"""


def test_a_killed_server_loses_nothing_that_was_written(path: Path, reopened: Reopen) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"written\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    journal = reopened()
    assert journal.get("key") == b"value"
    assert [interval.peak_bytes for interval in journal.history()] == [5]
    assert set_aside(path) == []
