"""Pictures as files between a worker and the front."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from domains.errors import Reason, ResourceExhausted, Unavailable
from domains.session.jobs import EncodedImage
from domains.session.types import ImageResult
from domains.values import ImageFileFormat
from server.worker.child import spool
from server.worker.front.spool import Spool, discard
from server.worker.link.frames import ProtocolError
from tests.fakes.pictures import png
from tests.odd_files import ODD

DATA = png(256, 320)


@pytest.fixture
def front(tmp_path: Path) -> Spool:
    front = Spool(tmp_path / "spool")
    front.sweep()
    return front


PICTURE = EncodedImage(0, 7, 256, 320, ImageFileFormat.PNG, DATA)


def announced(data: bytes = DATA, **changes: object) -> ImageResult:
    digest = hashlib.sha256(data).hexdigest()
    image = ImageResult(0, 7, digest, ImageFileFormat.PNG, 256, 320, len(data))
    return structs.replace(image, **changes)


def written(folder: Path) -> ImageResult:
    """The picture as a worker has it there, and what it announces."""
    return spool.put(folder, 1, PICTURE)


def test_a_picture_moves_from_the_worker_to_the_front(front: Spool) -> None:
    folder = front.folder_of("cpu:0")
    told = written(folder)
    assert told == announced()
    spooled = front.accept(folder, 1, told)
    assert spooled.image == told
    assert spooled.path.read_bytes() == DATA
    assert spooled.path.suffix == ".png"
    assert list(folder.iterdir()) == []
    # The same announcement again finds nothing.
    with pytest.raises(ProtocolError):
        front.accept(folder, 1, announced())
    discard(spooled)
    assert not spooled.path.exists()


def test_nobody_learns_of_a_failing_disk_before_who_keeps_the_picture(
    front: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells it once, to who syncs first."""

    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    folder = front.folder_of("cpu:0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        assert front.accept(folder, 1, written(folder)).path.read_bytes() == DATA


def test_folders_of_workers_are_private_and_their_own(front: Spool) -> None:
    folders = {front.folder_of("cpu:0"), front.folder_of("cuda:0")}
    assert len(folders) == 2
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": b"another"}, "another size"),
        ({"data": DATA.replace(b"IDAT", b"idat")}, "another hash"),
        ({"image_index": 1}, "cannot be opened"),
        ({"format": ImageFileFormat.WEBP}, "cannot be opened"),
    ],
)
def test_what_is_not_as_announced_is_refused(
    front: Spool, change: dict[str, Any], words: str
) -> None:
    folder = front.folder_of("cpu:0")
    written(folder)
    with pytest.raises(ProtocolError, match=words):
        front.accept(folder, 1, announced(**change))


def test_a_folder_for_a_picture_is_refused(front: Spool) -> None:
    folder = front.folder_of("cpu:0")
    (folder / "1-0.png").mkdir()
    with pytest.raises(ProtocolError):
        front.accept(folder, 1, announced())


def test_writing_that_fails_leaves_nothing(front: Spool) -> None:
    folder = front.folder_of("cpu:0")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
    try:
        with pytest.raises(ResourceExhausted) as full:
            written(folder)
        assert full.value.reason is Reason.DISK_FULL
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []


def test_sweeping_goes_through_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1-0.png").touch()
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    for name in ("accepted", "worker-cpu-0"):
        (folder / name).symlink_to(outside)
    front = Spool(folder)
    front.sweep()
    assert list(front.folder_of("cpu:0").iterdir()) == []
    assert (outside / "1-0.png").exists()


LEFT = ("1-0.png", "1-0.png.abcd_123.part", "17-3.webp", f"{'0a' * 16}.jpeg")


def test_pictures_of_earlier_processes_go_and_nothing_else(tmp_path: Path) -> None:
    spool_dir = tmp_path / "spool"
    Spool(spool_dir).sweep()
    front = Spool(spool_dir)
    places = (front.folder_of("cpu:0"), front.folder_of("cuda:12"), spool_dir / "accepted")
    for place in places:
        for name in LEFT:
            (place / name).write_bytes(DATA)
        (place / "holiday.png").write_bytes(b"mine")
        (place / "9-9.png").mkdir()
    (spool_dir / "holiday.png").write_bytes(b"mine")
    (spool_dir / "lost+found").mkdir()
    (spool_dir / "lost+found" / "1-0.png").write_bytes(b"mine")
    (spool_dir / os.fsdecode(b"caf\xe9")).write_bytes(b"mine")

    front.sweep()

    for place in places:
        assert sorted(os.listdir(place)) == ["9-9.png", "holiday.png"]
    assert len(os.listdir(spool_dir)) == 6
    assert (spool_dir / "lost+found" / "1-0.png").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("place", ["worker-cpu-0", "accepted", "worker-cpu-0/1-0.png.part"])
def test_whatever_lies_in_its_folders_pictures_move(
    tmp_path: Path, place: str, kind: str
) -> None:
    spool_dir = tmp_path / "spool"
    spool_dir.mkdir(mode=0o700)
    (spool_dir / place).parent.mkdir(exist_ok=True)
    ODD[kind](spool_dir / place)
    front = Spool(spool_dir)
    front.sweep()
    folder = front.folder_of("cpu:0")
    assert front.accept(folder, 1, written(folder)).path.read_bytes() == DATA


@pytest.mark.parametrize("gone", ["", "accepted", "worker-cpu-0"])
def test_folders_that_went_are_made_again(front: Spool, tmp_path: Path, gone: str) -> None:
    folder = front.folder_of("cpu:0")
    shutil.rmtree(tmp_path / "spool" / gone)
    spooled = front.accept(folder, 1, written(folder))
    assert spooled.path.read_bytes() == DATA
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_goes_with_its_picture_is_not_the_worker_s_fault(
    front: Spool, tmp_path: Path
) -> None:
    folder = front.folder_of("cpu:0")
    told = written(folder)
    shutil.rmtree(tmp_path / "spool")
    with pytest.raises(Unavailable) as refused:
        front.accept(folder, 1, told)
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE


def test_a_folder_that_cannot_be_used_is_said_by_both_sides(
    front: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = front.folder_of("cpu:0")
    told = written(folder)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(Unavailable) as refused:
        front.accept(folder, 1, told)
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
    with pytest.raises(Unavailable) as refused:
        written(folder)
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
