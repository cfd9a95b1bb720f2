"""When the roots are looked through, with the system's own watch of folders."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from domains.model.backends import folder_watch, network_drives
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.folder_watch import DiskWatch
from domains.model.backends.network_drives import network_drive
from domains.model.core import looks
from domains.model.core.looks import Looks
from domains.model.views import ModelEvent
from tests.domains.model.disk import write_safetensors
from tests.fakes.model import FakeScanner, contents_of, model

PATIENCE_SECONDS = 30.0
LORA = {"lora_unet_x_attn2_to_k.lora_down.weight": (8, 2048)}


class Drive(NamedTuple):
    """What the system says of a drive."""

    mountpoint: str
    fstype: str
    opts: str


class Told:
    """Counts what a watch tells."""

    def __init__(self) -> None:
        self._happened = threading.Event()

    def __call__(self) -> None:
        self._happened.set()

    def again(self) -> bool:
        """Whether something is told, from now on."""
        told = self._happened.wait(PATIENCE_SECONDS)
        self._happened.clear()
        return told

    def settle(self) -> None:
        """Until nothing is told any more."""
        while self._happened.wait(0.6):
            self._happened.clear()


def test_what_happens_in_folders_is_told_and_nothing_after_the_end(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    watch, told = DiskWatch(), Told()
    watch.follow({tmp_path: (tmp_path, tmp_path / "a", tmp_path / "a" / "b")}, told)
    assert told.again(), "a watch that begins tells so: something may have happened before"
    told.settle()
    for change in (
        lambda: (tmp_path / "a" / "b" / "x").write_text("1"),
        lambda: (tmp_path / "a" / "b" / "x").rename(tmp_path / "x"),
        lambda: (tmp_path / "x").unlink(),
        lambda: (tmp_path / "c").mkdir(),
    ):
        change()
        assert told.again()
        told.settle()
    assert watch.unwatched() == {}
    threads = [t for t in threading.enumerate() if t.name == "model-watch"]
    watch.close()

    assert len(threads) == 1
    assert not any(thread.is_alive() for thread in threads)
    watch.follow({tmp_path: (tmp_path,)}, told)
    assert not [t for t in threading.enumerate() if t.name == "model-watch"]


def test_reading_files_tells_nothing(tmp_path: Path) -> None:
    """A look that told of itself would never end."""
    file = write_safetensors(tmp_path / "ink.safetensors", LORA)
    watch, told = DiskWatch(), Told()
    watch.follow({tmp_path: (tmp_path,)}, told)
    told.again()
    told.settle()
    file.read_bytes()
    DiskScanner([tmp_path]).scan()

    assert not told._happened.wait(0.8)
    watch.close()


@pytest.mark.skipif(os.name == "nt", reason="making links takes rights there")
def test_links_out_of_a_root_are_not_watched(tmp_path: Path) -> None:
    """The library follows links: one to / would have it watch the whole disk."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    folders = DiskScanner([root]).scan().folders
    watch, told = DiskWatch(), Told()
    watch.follow(folders, told)
    told.again()
    told.settle()
    (outside / "x").write_text("1")

    assert folders == {root: (root,)}
    assert not told._happened.wait(0.8)
    watch.close()


def test_a_folder_that_goes_before_it_is_watched_costs_a_look_and_no_more(
    tmp_path: Path,
) -> None:
    watch, told = DiskWatch(), Told()
    watch.follow({tmp_path: (tmp_path, tmp_path / "gone")}, told)
    assert told.again()
    watch.follow({tmp_path: (tmp_path,)}, told)
    assert told.again()
    told.settle()
    assert watch.unwatched() == {}
    watch.close()


def test_where_the_system_does_not_watch_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*paths: Path, **how: object) -> None:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr("watchfiles.watch", refusing)
    watch = DiskWatch()
    watch.follow({tmp_path: (tmp_path,), tmp_path / "away": ()}, Told())
    watch._watched[tmp_path].wait()

    assert watch.unwatched() == {
        tmp_path: "the system does not watch it (OS file watch limit reached.)",
        tmp_path / "away": "it cannot be looked into",
    }
    watch.close()


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("ext4", "rw", ""),
        ("nfs4", "rw", "nfs4"),
        ("fuse.sshfs", "rw", "fuse.sshfs"),
        ("NTFS", "rw,remote", "NTFS"),
    ],
)
def test_network_drives_are_known_by_what_is_mounted_nearest(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: str,
    expected: str,
) -> None:
    drives = [
        Drive("/", "ext4", "rw"),
        Drive(str(tmp_path), kind, options),
        Drive(f"{tmp_path}-other", "nfs", "rw"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: drives)
    assert network_drive(tmp_path / "models") == expected
    assert network_drives.network_drive(Path("/usr")) == ""
    monkeypatch.setattr(folder_watch, "network_drive", lambda root: "nfs")
    watch = DiskWatch()
    watch.follow({tmp_path: (tmp_path,)}, Told())
    watch._watched[tmp_path].wait()
    assert "network drive (nfs)" in watch.unwatched()[tmp_path]
    watch.close()


class FakeWatch:
    """Tells when it is told to."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.followed: list[Mapping[Path, tuple[Path, ...]]] = []
        self.why_not: dict[Path, str] = {}

    def follow(
        self, folders: Mapping[Path, tuple[Path, ...]], changed: Callable[[], None]
    ) -> None:
        self.followed.append(folders)
        self.changed = changed

    def unwatched(self) -> Mapping[Path, str]:
        return self.why_not

    def close(self) -> None: ...


async def test_a_look_is_taken_at_the_start_and_whenever_something_happened() -> None:
    scanner, watch = FakeScanner(model("a")), FakeWatch()
    each = Looks(contents_of(scanner, clock=lambda: datetime.now(UTC)), watch)
    await each.run()
    assert scanner.scans == 1
    waiting = asyncio.create_task(each.run())
    await asyncio.sleep(0.05)
    assert scanner.scans == 1, "without a reason there is no look"
    await asyncio.to_thread(watch.changed)
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)

    assert scanner.scans == 2
    assert len(watch.followed) == 2


async def test_what_is_not_watched_is_looked_at_more_often_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(looks, "_UNWATCHED_SECONDS", 0.01)
    scanner, watch = FakeScanner(), FakeWatch()
    watch.why_not = {Path("/models"): "it lies on a network drive (nfs)"}
    each = Looks(contents_of(scanner, clock=lambda: datetime.now(UTC)), watch)
    caplog.set_level("INFO")
    for _ in range(3):
        await asyncio.wait_for(each.run(), PATIENCE_SECONDS)

    assert scanner.scans == 3
    assert caplog.text.count("network drive (nfs)") == 1


async def test_a_file_is_told_when_it_is_whole_and_not_while_it_is_written(
    tmp_path: Path,
) -> None:
    """Neither a new one, nor one that is written anew in the place of another."""
    whole = write_safetensors(
        tmp_path / "whole", LORA, metadata={"note": "x" * 999}
    ).read_bytes()
    (tmp_path / "root").mkdir()
    old = write_safetensors(tmp_path / "root" / "old.safetensors", LORA)
    contents = contents_of(DiskScanner([tmp_path / "root"]), clock=lambda: datetime.now(UTC))
    await contents.look(quiet=60)
    told: list[ModelEvent] = []
    contents.changes.subscribe(told.append)
    files = [tmp_path / "root" / "new.safetensors", old]
    for end in range(1, len(whole), len(whole) // 5):
        for file in files:
            file.write_bytes(whole[:end])
        await contents.look(quiet=60)
        assert contents.scan.unsettled
        assert told == []
        assert contents.now()["old"].size_bytes != end
    for file in files:
        file.write_bytes(whole)
        os.utime(file, (0, 0))  # long ago, for the clock of the disk
    await contents.look(quiet=60)

    assert not contents.scan.unsettled
    assert [(e.kind.value, e.model.model_id) for e in told] == [
        ("added", "new"),
        ("changed", "old"),
    ]
    assert all(e.model.type is not None for e in told)


async def test_a_clock_of_the_disk_that_is_ahead_hides_nothing(tmp_path: Path) -> None:
    contents = contents_of(DiskScanner([tmp_path]), clock=lambda: datetime.now(UTC))
    await contents.look(quiet=60)
    os.utime(write_safetensors(tmp_path / "ink.safetensors", LORA), (4e9, 4e9))
    await contents.look(quiet=60)

    assert list(contents.now()) == ["ink"]
