"""The artifact store: whole files only, found again, within the quota."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import CHUNK_BYTES, ArtifactStore
from domains.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
)

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def opened(folder: Path, clock: Clock, quota_bytes: int = 10_000_000) -> ArtifactStore:
    store = ArtifactStore(
        ArtifactFolder(folder),
        quota_bytes=quota_bytes,
        retention=timedelta(seconds=60),
        now=clock,
    )
    await store.start()
    return store


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> ArtifactStore:
    return await opened(tmp_path / "artifacts", clock)


async def keep(
    store: ArtifactStore, tmp_path: Path, content: bytes, session_id: str = "s"
) -> str:
    path = tmp_path / "spooled"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    await store.adopt(path, digest, session_id)
    assert not path.exists()
    return digest


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_what_is_kept_can_be_read_again_and_again(
    store: ArtifactStore, tmp_path: Path
) -> None:
    content = PNG + bytes(range(256)) * 10_000
    artifact_id = await keep(store, tmp_path, content)

    chunks = [chunk async for chunk in store.read(artifact_id)]
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= CHUNK_BYTES
    assert await joined(store.read(artifact_id, offset=5, length=7)) == content[5:12]
    assert await joined(store.read(artifact_id, offset=len(content))) == b""
    described = store.get(artifact_id)
    assert (described.size_bytes, described.media_type) == (len(content), "image/png")


async def test_artifacts_survive_a_restart_with_their_session(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "the-session")

    again = await opened(tmp_path / "artifacts", clock)

    assert again.get(artifact_id).session_id == "the-session"
    assert await joined(again.read(artifact_id)) == PNG


async def test_leftovers_of_a_crash_are_swept(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "half.part").write_bytes(b"half")
    (folder / ("b" * 64 + ".json")).write_text("{}")

    await opened(folder, clock)

    assert list(folder.iterdir()) == []


async def test_content_that_is_not_what_was_announced_is_refused_and_removed(
    store: ArtifactStore, tmp_path: Path
) -> None:
    path = tmp_path / "spooled"
    path.write_bytes(PNG)

    with pytest.raises(DataLoss) as refusal:
        await store.adopt(path, "0" * 64, "s")

    assert refusal.value.reason is Reason.CHECKSUM_MISMATCH
    assert not path.exists()
    assert store.usage().used_bytes == 0


async def test_the_least_recently_used_gives_way_to_the_quota(
    tmp_path: Path, clock: Clock
) -> None:
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=25)
    first = await keep(store, tmp_path, b"a" * 10)
    second = await keep(store, tmp_path, b"b" * 10)
    await joined(store.read(first))

    third = await keep(store, tmp_path, b"c" * 10)

    assert store.get(first)
    assert store.get(third)
    with pytest.raises(NotFound):
        store.get(second)
    assert store.usage().used_bytes == 20


async def test_more_than_the_whole_quota_is_refused(tmp_path: Path, clock: Clock) -> None:
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=25)
    kept = await keep(store, tmp_path, b"a" * 10)

    with pytest.raises(ResourceExhausted) as refusal:
        await keep(store, tmp_path, b"b" * 26)

    assert refusal.value.metadata == {"needed_bytes": "26", "quota_bytes": "25"}
    assert store.get(kept)


async def test_retention_counts_from_the_last_use(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    used = await keep(store, tmp_path, b"used")
    unused = await keep(store, tmp_path, b"unused")
    clock.moment += timedelta(seconds=50)
    await joined(store.read(used))
    clock.moment += timedelta(seconds=50)

    await keep(store, tmp_path, b"newest")

    assert store.get(used)
    with pytest.raises(NotFound):
        store.get(unused)


async def test_nothing_that_is_read_is_deleted(store: ArtifactStore, tmp_path: Path) -> None:
    artifact_id = await keep(store, tmp_path, PNG)
    reading = store.read(artifact_id)
    await anext(reading)

    with pytest.raises(FailedPrecondition):
        await store.delete(artifact_id)

    await reading.aclose()  # type: ignore[attr-defined]
    await store.delete(artifact_id)
    with pytest.raises(NotFound):
        store.get(artifact_id)


async def test_offsets_and_ids_are_checked(store: ArtifactStore, tmp_path: Path) -> None:
    artifact_id = await keep(store, tmp_path, PNG)

    with pytest.raises(OutOfRange) as refusal:
        await joined(store.read(artifact_id, offset=len(PNG) + 1))
    assert refusal.value.metadata["size_bytes"] == str(len(PNG))
    for nonsense in ("", "../../etc/passwd", "A" * 64, "a" * 63):
        with pytest.raises(InvalidArgument):
            store.get(nonsense)


async def test_a_file_cut_short_on_disk_is_data_loss(
    store: ArtifactStore, tmp_path: Path
) -> None:
    artifact_id = await keep(store, tmp_path, PNG)
    (tmp_path / "artifacts" / artifact_id).write_bytes(PNG[:3])

    with pytest.raises(DataLoss) as damage:
        await joined(store.read(artifact_id))
    assert damage.value.reason is Reason.DATA_CORRUPTED


async def test_a_full_disk_is_said_and_keeps_what_was_there(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await keep(store, tmp_path, PNG)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("domains.artifact.backends.folder.os.replace", full)
        with pytest.raises(ResourceExhausted) as refusal:
            await keep(store, tmp_path, b"more")

    assert refusal.value.reason is Reason.DISK_FULL
    assert await joined(store.read(kept)) == PNG
    assert await keep(store, tmp_path, b"more")  # space is back


async def test_lists_are_newest_first_and_filtered(
    store: ArtifactStore, tmp_path: Path
) -> None:
    picture = await keep(store, tmp_path, PNG, "one")
    other = await keep(store, tmp_path, b"text", "two")

    everything = store.list(session_id="", media_type_prefix="", page_size=0, page_token="")
    pictures = store.list(session_id="", media_type_prefix="image/", page_size=0, page_token="")
    of_two = store.list(session_id="two", media_type_prefix="", page_size=0, page_token="")

    assert [artifact.artifact_id for artifact in everything.items] == [other, picture]
    assert [artifact.artifact_id for artifact in pictures.items] == [picture]
    assert [artifact.artifact_id for artifact in of_two.items] == [other]
