"""Pictures as files between a worker and the front."""

from __future__ import annotations

import hashlib
import os
import resource
from pathlib import Path

import pytest

from domains.values import ImageFormat
from server.worker import spool
from server.worker.frames import ProtocolError, SpooledFile
from server.worker.spool import Spool

DATA = b"a picture"


@pytest.fixture
def front(tmp_path: Path) -> Spool:
    front = Spool(tmp_path / "spool")
    front.sweep()
    return front


def announced(name: str = "1-0.png", data: bytes = DATA) -> SpooledFile:
    digest = hashlib.sha256(data).hexdigest()
    return SpooledFile(name, digest, len(data), 0, 7, 256, 320, ImageFormat.PNG)


def test_a_picture_moves_from_the_worker_to_the_front(front: Spool) -> None:
    folder = front.folder_of("cpu:0")
    digest = spool.write(folder, "1-0.png", DATA)
    assert digest == hashlib.sha256(DATA).hexdigest()
    image = front.accept(folder, announced())
    assert image.path.read_bytes() == DATA
    assert image.path.suffix == ".png"
    assert list(folder.iterdir()) == []
    assert (image.seed, image.width, image.height) == (7, 256, 320)
    # The same announcement again finds nothing.
    with pytest.raises(ProtocolError):
        front.accept(folder, announced())
    spool.discard(image)
    assert not image.path.exists()


def test_folders_of_workers_are_private_and_their_own(front: Spool) -> None:
    folders = {front.folder_of("cpu:0"), front.folder_of("cuda:0")}
    assert len(folders) == 2
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": b"another"}, "another size"),
        ({"data": b"A picture"}, "another hash"),
        ({"name": "2-0.png"}, "cannot be opened"),
    ],
)
def test_what_is_not_as_announced_is_refused(
    front: Spool, change: dict[str, str], words: str
) -> None:
    folder = front.folder_of("cpu:0")
    spool.write(folder, "1-0.png", DATA)
    with pytest.raises(ProtocolError, match=words):
        front.accept(folder, announced(**change))  # type: ignore[arg-type]


def test_a_folder_for_a_picture_is_refused(front: Spool) -> None:
    folder = front.folder_of("cpu:0")
    (folder / "1-0.png").mkdir()
    with pytest.raises(ProtocolError):
        front.accept(folder, announced())


def test_writing_that_fails_leaves_nothing(front: Spool) -> None:
    folder = front.folder_of("cpu:0")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.write(folder, "1-0.png", DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []


def test_sweeping_goes_through_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = tmp_path / "spool"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "deeper" / "file").touch()
    os.symlink(outside, folder / "deep" / "link")
    Spool(folder).sweep()
    assert [path.name for path in folder.iterdir()] == ["accepted"]
    assert (outside / "kept").exists()
