"""Whatever happens to the folder of artifacts from outside: nothing false is given out, nothing
of others is touched, and a picture that is drawn again is there again."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import ArtifactStore
from domains.artifact.types import ArtifactFilter
from domains.clock import Clock as SystemClock
from domains.errors import DataLoss, NotFound, Reason, ResourceExhausted, Unavailable
from tests.domains.artifact.stand import build
from tests.domains.artifact.test_store import ME, PNG, Clock, joined, keep, listed, opened
from tests.odd_files import ODD

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform == "win32", reason="files of POSIX systems"),
]

PNG_ID = hashlib.sha256(PNG).hexdigest()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "artifacts"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
async def store(folder: Path, clock: Clock) -> ArtifactStore:
    return await opened(folder, clock)


def flip(path: Path) -> None:
    """Change one byte and leave no trace of it in size or time."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(10)
        file.write(b"X")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def aside(folder: Path) -> list[Path]:
    return list(folder.glob("*.unusable-*"))


def everything(folder: Path) -> dict[bytes, tuple[int, int]]:
    """All entries, with what tells that they are still the same."""
    with os.scandir(os.fsencode(folder)) as entries:
        statuses = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    return {name: (status.st_ino, status.st_size) for name, status in statuses.items()}


NAMES = (
    *("holiday.png", "lost+found", ".hidden", "movie.part", "notes.json", "A" * 64, "a" * 63),
    *("a" * 64 + ".png", "a" * 64 + "\n", "x.unusable-1"),
)


async def test_what_is_not_ours_is_left_alone(folder: Path, clock: Clock) -> None:
    for name in NAMES:
        (folder / name).write_bytes(b"mine")
    (folder / os.fsdecode(b"caf\xe9\xff")).write_bytes(b"mine")
    for kind, make in ODD.items():
        make(folder / f"my {kind}")
        make(folder / (hashlib.sha256(kind.encode()).hexdigest() + ".abcd1234.part"))
    before = everything(folder)

    store = await opened(folder, clock)
    kept = await keep(store, folder.parent, PNG)
    clock.moment += timedelta(seconds=120)
    await store.tidy()

    assert listed(store, "") == []
    assert kept == PNG_ID
    assert everything(folder) == before
    assert (folder / "my folder" / "holiday.png").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ODD)
async def test_a_name_is_not_believed(
    folder: Path, clock: Clock, kind: str, tmp_path: Path
) -> None:
    """Something else with an artifact's name is neither listed nor read, and is replaced."""
    ODD[kind](folder / PNG_ID)
    was = (folder / PNG_ID).lstat().st_ino

    store = await opened(folder, clock)
    assert listed(store, "") == []
    with pytest.raises(NotFound):
        await joined(store.read(ME, PNG_ID))

    await keep(store, tmp_path, PNG)
    assert await joined(store.read(ME, PNG_ID)) == PNG
    assert [entry.lstat().st_ino for entry in aside(folder)] == [was]


@pytest.mark.parametrize("kind", ODD)
async def test_a_sidecar_that_is_no_file_costs_the_sessions(
    folder: Path, clock: Clock, kind: str, tmp_path: Path
) -> None:
    (folder / PNG_ID).write_bytes(PNG)
    ODD[kind](folder / f"{PNG_ID}.json")

    store = await opened(folder, clock)
    assert store.get(ME, PNG_ID).session_ids == ()
    await keep(store, tmp_path, PNG, "again")

    again = await opened(folder, clock)
    assert again.get(ME, PNG_ID).session_ids == ("again",)


@pytest.mark.parametrize(
    "content",
    [
        b"[1]",
        b"null",
        b'"x"',
        b"[" * 200_000,
        b'{"session_ids": "' + b"a" * (2 << 20) + b'"}',
        b'{"session_ids": [5]}',
        b"\0" * 100,
    ],
    ids=["list", "null", "text", "deep", "long", "number", "zeros"],
)
async def test_a_sidecar_of_other_content_costs_the_sessions(
    folder: Path, clock: Clock, content: bytes
) -> None:
    (folder / PNG_ID).write_bytes(PNG)
    (folder / f"{PNG_ID}.json").write_bytes(content)
    store = await opened(folder, clock)
    assert store.get(ME, PNG_ID).session_ids == ()
    assert await joined(store.read(ME, PNG_ID)) == PNG


@pytest.mark.parametrize("moment", [-1, -(1 << 40), 1 << 35, 1 << 33])
async def test_a_file_of_any_date_is_listed(folder: Path, clock: Clock, moment: int) -> None:
    (folder / PNG_ID).write_bytes(PNG)
    os.utime(folder / PNG_ID, (0, moment))
    store = await opened(folder, clock)
    assert listed(store, "") == [PNG_ID]
    assert 1970 <= store.get(ME, PNG_ID).create_time.year <= 9999


async def test_a_damaged_picture_is_never_given_out_and_drawn_again(
    store: ArtifactStore, folder: Path, tmp_path: Path
) -> None:
    await keep(store, tmp_path, PNG, "one")
    flip(folder / PNG_ID)

    with pytest.raises(DataLoss) as damage:
        await joined(store.read(ME, PNG_ID))
    assert damage.value.reason is Reason.DATA_CORRUPTED
    assert damage.value.metadata == {"artifact_id": PNG_ID}
    with pytest.raises(NotFound):
        store.get(ME, PNG_ID)
    assert [len(path.read_bytes()) for path in aside(folder)] == [len(PNG)]

    await keep(store, tmp_path, PNG, "two")
    assert await joined(store.read(ME, PNG_ID)) == PNG
    assert store.get(ME, PNG_ID).session_ids == ("one", "two")


async def test_not_even_a_part_of_a_damaged_picture_is_given_out(
    store: ArtifactStore, folder: Path, tmp_path: Path
) -> None:
    content = PNG + bytes(3 << 20)
    name = await keep(store, tmp_path, content)
    with (folder / name).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"X")
    for offset, length in ((0, 5), (100, 7), (len(content) - 1, 0)):
        await keep(store, tmp_path, content)
        flip(folder / name)
        with pytest.raises(DataLoss):
            await anext(store.read(ME, name, offset=offset, length=length))


@pytest.mark.parametrize("restarted", [True, False])
async def test_a_damaged_picture_is_replaced_when_drawn_again_though_nobody_read_it(
    store: ArtifactStore, folder: Path, tmp_path: Path, clock: Clock, restarted: bool
) -> None:
    await keep(store, tmp_path, PNG, "one")
    flip(folder / PNG_ID)
    if restarted:
        store = await opened(folder, clock)
    await keep(store, tmp_path, PNG, "two")
    assert await joined(store.read(ME, PNG_ID)) == PNG
    assert store.usage().used_bytes == len(PNG)


async def test_a_file_without_end_is_neither_listed_nor_hashed_and_pushes_nothing_out(
    folder: Path, tmp_path: Path, clock: Clock
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    store = await opened(folder, clock)
    kept = await keep(store, other, b"kept")
    with (folder / PNG_ID).open("wb") as file:
        file.truncate(1 << 42)

    store = await opened(folder, clock)
    assert listed(store, "") == [kept]
    async with asyncio.timeout(20):
        await keep(store, tmp_path, PNG)
    assert set(listed(store, "")) == {kept, PNG_ID}
    assert await joined(store.read(ME, PNG_ID)) == PNG
    assert [path.stat().st_size for path in aside(folder)] == [1 << 42]


async def test_a_picture_is_hashed_again_only_when_its_file_changed(
    store: ArtifactStore, folder: Path, tmp_path: Path, clock: Clock
) -> None:
    hashed: list[object] = []

    def count(file: object, name: str) -> object:
        hashed.append(file)
        return digest(file, name)  # type: ignore[arg-type]

    digest = hashlib.file_digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "file_digest", count)
        await keep(store, tmp_path, PNG)
        await joined(store.read(ME, PNG_ID))
        await keep(store, tmp_path, PNG)
        assert len(hashed) == 0
        store = await opened(folder, clock)
        await joined(store.read(ME, PNG_ID))
        await joined(store.read(ME, PNG_ID, offset=3, length=2))
        assert len(hashed) == 1
        os.utime(folder / PNG_ID)
        await joined(store.read(ME, PNG_ID))
        assert len(hashed) == 2


async def test_a_deleted_picture_is_not_found_and_leaves_the_list(
    store: ArtifactStore, folder: Path, tmp_path: Path
) -> None:
    await keep(store, tmp_path, PNG)
    (folder / PNG_ID).unlink()
    with pytest.raises(NotFound) as missing:
        await joined(store.read(ME, PNG_ID))
    assert missing.value.reason is Reason.ARTIFACT_NOT_FOUND
    assert listed(store, "") == []
    assert store.usage().used_bytes == 0


async def test_a_list_has_only_what_is_there(
    store: ArtifactStore, folder: Path, tmp_path: Path, clock: Clock
) -> None:
    names = []
    for number in range(5):
        names.append(await keep(store, tmp_path, bytes([number]) * 10))
        clock.moment += timedelta(seconds=1)
    for name in names[1:4]:
        (folder / name).unlink()
    page = await store.look_through(ME, ArtifactFilter(), page_size=2)
    assert [artifact.artifact_id for artifact in page.items] == [names[4], names[0]]
    assert not page.next_page_token
    (folder / names[0]).unlink()
    with pytest.raises(NotFound):
        await store.look(ME, names[0])
    assert (await store.look(ME, names[4])).artifact_id == names[4]


async def test_a_folder_that_went_is_made_again(
    store: ArtifactStore, folder: Path, tmp_path: Path
) -> None:
    await keep(store, tmp_path, PNG, "one")
    shutil.rmtree(folder)
    with pytest.raises(NotFound):
        await joined(store.read(ME, PNG_ID))
    await keep(store, tmp_path, PNG, "two")
    assert await joined(store.read(ME, PNG_ID)) == PNG
    assert os.stat(folder).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "folder"])
async def test_a_folder_replaced_by_something_else_is_made_again(
    store: ArtifactStore, folder: Path, tmp_path: Path, kind: str
) -> None:
    os.rmdir(folder)
    ODD[kind](folder)
    await keep(store, tmp_path, PNG)
    assert await joined(store.read(ME, PNG_ID)) == PNG


async def test_a_picture_whose_file_went_before_it_was_kept_is_said(
    store: ArtifactStore, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable) as refused:
        await store.adopt(tmp_path / "nothing", PNG_ID, ME.name, session_id="s")
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE


class FailingFile(io.FileIO):
    """A disk gives its first MiB and no more."""

    def readinto(self, buffer: Any, /) -> int:
        if self.tell() >= 1 << 20:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(buffer)


class FailingFolder(ArtifactFolder):
    def open(self, artifact_id: str) -> io.BufferedReader:
        super().open(artifact_id).close()
        return io.BufferedReader(FailingFile(str(self._folder / artifact_id)), 1)


async def test_a_disk_that_fails_in_mid_read_is_said(
    folder: Path, tmp_path: Path, clock: Clock
) -> None:
    store = await opened(FailingFolder(folder), clock)
    name = await keep(store, tmp_path, PNG + bytes(2 << 20))
    with pytest.raises(Unavailable) as refused:
        await joined(store.read(ME, name))
    assert refused.value.reason is Reason.STORAGE_UNAVAILABLE
    assert name in listed(store, "")


async def test_pictures_may_lie_on_a_disk_of_their_own(tmp_path: Path, clock: Clock) -> None:
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is one disk")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        store = await opened(Path(other), clock)
        await keep(store, tmp_path, PNG)
        assert await joined(store.read(ME, PNG_ID)) == PNG
        assert sorted(os.listdir(other)) == [PNG_ID, f"{PNG_ID}.json"]


# Expiry.


async def test_what_has_expired_goes_by_itself(
    store: ArtifactStore, folder: Path, tmp_path: Path, clock: Clock
) -> None:
    old = await keep(store, tmp_path, b"old")
    clock.moment += timedelta(seconds=40)
    new = await keep(store, tmp_path, b"new")
    clock.moment += timedelta(seconds=40)
    await store.tidy()
    assert listed(store, "") == [new]
    assert not (folder / old).exists()
    assert not (folder / f"{old}.json").exists()


@dataclass(frozen=True)
class Settings:
    data_dir: Path
    artifact_quota_bytes: int = 1_000_000
    artifact_min_free_bytes: int = 0
    artifact_retention_seconds: float = 0.0


async def test_the_domain_tidies_by_itself(tmp_path: Path) -> None:
    """What it hands to the server to be repeated, with a retention that is over at once."""
    built = build(Settings(tmp_path), clock=SystemClock())
    await built.store.start()
    await keep(built.store, tmp_path, PNG)
    assert os.listdir(tmp_path / "artifacts")
    for loop in built.loops:
        assert loop.interval <= 10
        await loop.work()
    assert os.listdir(tmp_path / "artifacts") == []


async def test_a_clock_that_jumps_ends_no_retention(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    name = await keep(store, tmp_path, PNG)
    clock.error = timedelta(days=365)
    await store.tidy()
    await keep(store, tmp_path, b"another")
    assert name in listed(store, "")
    clock.error = timedelta(days=-365)
    clock.moment += timedelta(seconds=120)
    await store.tidy()
    assert listed(store, "") == []


async def test_a_file_that_cannot_be_deleted_keeps_no_other_from_it(
    store: ArtifactStore, folder: Path, tmp_path: Path, clock: Clock
) -> None:
    names = [await keep(store, tmp_path, bytes([number]) * 10) for number in range(3)]
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == names[0]:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(Unavailable):
            await store.delete(ME, names[0])
        assert names[0] in listed(store, "")
        clock.moment += timedelta(seconds=120)
        await store.tidy()
        await keep(store, tmp_path, PNG)
    assert listed(store, "") == [PNG_ID]
    assert not any((folder / name).exists() for name in names[1:])


# A disk that is nearly full.


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say how much of the disk is free."""

    def say(size: int) -> None:
        usage = shutil.disk_usage("/")._replace(free=size)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    return say


async def test_with_too_little_free_nothing_more_is_kept_and_nothing_lost(
    folder: Path, tmp_path: Path, clock: Clock, free: Callable[[int], None]
) -> None:
    store = await opened(folder, clock, min_free_bytes=1000)
    free(1000)
    kept = await keep(store, tmp_path, PNG)
    free(999)
    with pytest.raises(ResourceExhausted) as refused:
        await keep(store, tmp_path, b"another")
    assert refused.value.reason is Reason.DISK_FULL
    assert refused.value.metadata == {"free_bytes": "999", "min_free_bytes": "1000"}
    assert not (tmp_path / "spooled").exists()
    assert listed(store, "") == [kept]
    assert await joined(store.read(ME, kept)) == PNG
    await keep(store, tmp_path, PNG)  # it takes no more room
    free(1000)
    await keep(store, tmp_path, b"another")


async def test_with_too_little_free_what_has_expired_goes_first(
    folder: Path,
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = await opened(folder, clock, min_free_bytes=1000)
    usage = shutil.disk_usage("/")
    old = await keep(store, tmp_path, b"old")
    clock.moment += timedelta(seconds=120)
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda _: usage._replace(free=0 if (folder / old).exists() else 1000),
    )
    new = await keep(store, tmp_path, b"new")
    assert listed(store, "") == [new]
