"""What `deviceops doctor` says of a data folder, without touching it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from server.cli.checks import Finding, Verdict
from server.cli.checks.data_folder import check_data_folder
from server.config import Settings
from server.data_folder import held
from server.journal import Journal
from tests.odd_files import ODD

pytestmark = pytest.mark.timeout(30)
HASH = "a" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(port=0, metrics_port=0, data_dir=tmp_path / "data")


@pytest.fixture
def used(settings: Settings) -> Settings:
    """As a server leaves it."""
    with held(settings):
        journal = Journal(settings.data_dir / "journal.sqlite")
        journal.open()
        journal.put("key", b"value")
        journal.close()
    (settings.data_dir / "artifacts" / HASH).touch()
    (settings.data_dir / "artifacts" / f"{HASH}.json").touch()
    return settings


def entries(folder: Path) -> dict[Path, tuple[int, int, int]]:
    paths = [folder, *folder.rglob("*")]
    statuses = {path: path.lstat() for path in paths}
    return {path: (s.st_ino, s.st_mode, s.st_mtime_ns) for path, s in statuses.items()}


def found(settings: Settings) -> dict[str, Finding]:
    """By name; nothing may be changed by looking."""
    before = entries(settings.data_dir) if settings.data_dir.is_dir() else {}
    findings = check_data_folder(settings)
    after = entries(settings.data_dir) if settings.data_dir.is_dir() else {}
    assert after == before
    return {finding.name: finding for finding in findings}


def test_one_that_is_not_there_yet_is_fine(settings: Settings) -> None:
    assert found(settings)["data folder"].verdict is Verdict.OK


def test_one_in_order_is_fine(used: Settings) -> None:
    assert list(found(used)) == ["data folder"]
    assert found(used)["data folder"].verdict is Verdict.OK


def test_what_was_set_aside_and_what_is_not_ours_is_named(used: Settings) -> None:
    (used.data_dir / "journal.sqlite.unusable-17").write_bytes(b"garbage")
    (used.data_dir / "artifacts" / f"{HASH}.unusable-18").touch()
    (used.data_dir / "holiday.png").touch()
    (used.data_dir / "artifacts" / "lost+found").mkdir()
    (used.data_dir / os.fsdecode(b"caf\xe9")).touch()
    findings = found(used)
    assert set(findings) == {"set aside", "other files"}
    assert findings["set aside"].found == (
        f"artifacts/{HASH}.unusable-18, journal.sqlite.unusable-17"
    )
    assert findings["other files"].found.startswith(
        "artifacts/lost+found, caf\\udce9, holiday.png"
    )


def test_of_very_many_a_few_are_named(used: Settings) -> None:
    for number in range(1000):
        (used.data_dir / f"{number:04}.png").touch()
    assert "0004.png and 995 more" in found(used)["other files"].found


def test_damaged_rows_are_counted_before_and_after_they_are_left_out(used: Settings) -> None:
    path = used.data_dir / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO facts VALUES ('a', 5), ('b', 'text')")
    assert found(used)["journal.sqlite"].found == "2 damaged rows"
    journal = Journal(path)
    journal.open()
    journal.close()
    [(name, finding)] = [
        item for item in found(used).items() if item[0].startswith("journal.sqlite")
    ]
    assert name.startswith("journal.sqlite.unusable-")
    assert finding.found == "2 damaged rows"


def test_a_journal_that_a_server_has_open_is_read_whole(used: Settings) -> None:
    """Much of it is not in the file itself then."""
    path = used.data_dir / "journal.sqlite"
    path.unlink()
    journal = Journal(path)
    journal.open()
    journal.put("key", b"value")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert [finding.verdict for finding in check_data_folder(used)] == [Verdict.OK]
        other.execute("INSERT INTO facts VALUES ('a', 5)")
        [finding] = check_data_folder(used)
        assert (finding.name, finding.found) == ("journal.sqlite", "1 damaged row")
    journal.put("key", b"later")
    journal.close()


def test_a_journal_that_is_none_is_said(used: Settings) -> None:
    (used.data_dir / "journal.sqlite").write_bytes(b"garbage" * 1000)
    assert "not usable as it is" in found(used)["journal"].found


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    "place", ["server.lock", "journal.sqlite", "journal.sqlite-wal", "artifacts", "spool"]
)
def test_whatever_lies_in_a_place_is_said_and_not_waited_for(
    settings: Settings, place: str, kind: str
) -> None:
    settings.data_dir.mkdir(mode=0o700)
    ODD[kind](settings.data_dir / place)
    if kind == "folder" and place in (
        "artifacts",
        "spool",
    ):  # which is open to others, and closed by the next start
        assert found(settings)[f"data folder: {place}"].verdict is Verdict.NOTE
        return
    assert found(settings)[f"data folder: {place}"].verdict is Verdict.PROBLEM


def test_what_others_can_read_is_noted(used: Settings) -> None:
    (used.data_dir / "journal.sqlite").chmod(0o644)
    (used.data_dir / "runtime").chmod(0o755)
    findings = found(used)
    assert findings["data folder: journal.sqlite"].found == "has mode 644"
    assert findings["data folder: runtime"].found == "has mode 755"


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root")
def test_what_belongs_to_another_user_is_a_problem(used: Settings) -> None:
    os.chown(used.data_dir / "spool", 12345, -1)
    finding = found(used)["data folder: spool"]
    assert (finding.verdict, finding.found) == (Verdict.PROBLEM, "belongs to user id 12345")


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "folder"])
def test_a_data_folder_that_is_none_is_a_problem(settings: Settings, kind: str) -> None:
    ODD[kind](settings.data_dir)
    assert found(settings)["data folder"].verdict is Verdict.PROBLEM
