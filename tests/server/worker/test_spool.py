"""Pictures as files between a worker and the front."""

from __future__ import annotations

import hashlib
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from domains.errors import Reason, ResourceExhausted
from domains.session.jobs import EncodedImage
from domains.session.types import ImageResult
from domains.values import ImageFormat
from server.worker.child import spool
from server.worker.front.spool import Spool, discard
from server.worker.link.frames import ProtocolError
from tests.fakes.pictures import png

DATA = png(256, 320)


@pytest.fixture
def front(tmp_path: Path) -> Spool:
    front = Spool(tmp_path / "spool")
    front.sweep()
    return front


PICTURE = EncodedImage(0, 7, 256, 320, ImageFormat.PNG, DATA)


def announced(data: bytes = DATA, **changes: object) -> ImageResult:
    digest = hashlib.sha256(data).hexdigest()
    image = ImageResult(0, 7, digest, ImageFormat.PNG, 256, 320, len(data))
    return structs.replace(image, **changes)


def test_a_picture_moves_from_the_worker_to_the_front(front: Spool) -> None:
    folder = front.folder_of("cpu:0")
    told = spool.put(folder, 1, PICTURE)
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
        ({"format": ImageFormat.WEBP}, "cannot be opened"),
    ],
)
def test_what_is_not_as_announced_is_refused(
    front: Spool, change: dict[str, Any], words: str
) -> None:
    folder = front.folder_of("cpu:0")
    spool.put(folder, 1, PICTURE)
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
            spool.put(folder, 1, PICTURE)
        assert full.value.reason is Reason.DISK_FULL
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
