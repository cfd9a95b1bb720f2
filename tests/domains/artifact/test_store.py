"""The artifact store: whole files only, found again, within the quota."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domains.artifact.backends.disk_errors import typed
from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import CHUNK_BYTES, ArtifactStore
from domains.artifact.ports import Needed
from domains.artifact.types import ArtifactFilter, Claim, StoredFile
from domains.clients import DEFAULT_CLIENT, Caller, Role
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
ME = Caller(DEFAULT_CLIENT, Role.RUN)


class Clock:
    """A clock that is moved by hand; what people read of it jumps by `error`."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC)
        self.error = timedelta(0)

    def __call__(self) -> datetime:
        return self.moment + self.error

    def monotonic(self) -> float:
        return self.moment.timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def opened(
    files: Path | ArtifactFolder,
    clock: Clock,
    quota_bytes: int = 10_000_000,
    min_free_bytes: int = 0,
    needed: Needed = dict,
) -> ArtifactStore:
    store = ArtifactStore(
        ArtifactFolder(files) if isinstance(files, Path) else files,
        quota_bytes=quota_bytes,
        min_free_bytes=min_free_bytes,
        retention=timedelta(seconds=60),
        now=clock,
        monotonic=clock.monotonic,
        needed=needed,
    )
    await store.start()
    return store


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> ArtifactStore:
    return await opened(tmp_path / "artifacts", clock)


async def keep(
    store: ArtifactStore,
    tmp_path: Path,
    content: bytes,
    session_id: str = "s",
    owner: str = ME.name,
) -> str:
    path = tmp_path / "spooled"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    await store.adopt(path, digest, owner, session_id=session_id)
    assert not path.exists()
    return digest


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_what_is_kept_can_be_read_again_and_again(
    store: ArtifactStore, tmp_path: Path
) -> None:
    content = PNG + bytes(range(256)) * 10_000
    artifact_id = await keep(store, tmp_path, content)

    chunks = [chunk async for chunk in store.read(ME, artifact_id)]
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= CHUNK_BYTES
    assert await joined(store.read(ME, artifact_id, offset=5, length=7)) == content[5:12]
    assert await joined(store.read(ME, artifact_id, offset=len(content))) == b""
    described = store.get(ME, artifact_id)
    assert (described.size_bytes, described.media_type) == (len(content), "image/png")


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What threads were asked to do, each of which the loop waits for."""
    found: list[str] = []
    to_thread = asyncio.to_thread

    async def noted(what: Callable[..., Any], *given: Any, **named: Any) -> Any:
        found.append(what.__name__)
        return await to_thread(what, *given, **named)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    return found


async def test_keeping_a_picture_takes_no_more_trips_to_threads_than_it_needs(
    store: ArtifactStore, tmp_path: Path, trips: list[str]
) -> None:
    await keep(store, tmp_path, PNG)
    assert trips == ["_taken"]
    trips.clear()

    await keep(store, tmp_path, PNG)
    assert trips == ["_taken"]


async def test_reading_takes_a_trip_for_each_four_chunks(
    store: ArtifactStore, tmp_path: Path, trips: list[str]
) -> None:
    content = PNG + bytes(4 * CHUNK_BYTES)
    artifact_id = await keep(store, tmp_path, content)
    trips.clear()

    chunks = [chunk async for chunk in store.read(ME, artifact_id, offset=3)]
    assert b"".join(chunks) == content[3:]
    assert list(map(len, chunks)) == [CHUNK_BYTES] * 4 + [len(PNG) - 3]
    assert trips == ["open_at", "_read"]


async def test_artifacts_survive_a_restart_with_their_session(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "the-session")

    again = await opened(tmp_path / "artifacts", clock)

    assert again.get(ME, artifact_id).session_ids == ("the-session",)
    assert await joined(again.read(ME, artifact_id)) == PNG


def listed(store: ArtifactStore, session_id: str) -> list[str]:
    page = store.list(ME, ArtifactFilter(session_id=session_id))
    return [artifact.artifact_id for artifact in page.items]


async def test_the_same_picture_belongs_to_every_session_that_made_it(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "one")
    assert await keep(store, tmp_path, PNG, "two") == artifact_id
    assert await keep(store, tmp_path, PNG, "one") == artifact_id

    for kept in (store, await opened(tmp_path / "artifacts", clock)):
        assert listed(kept, "one") == listed(kept, "two") == [artifact_id]
        assert listed(kept, "three") == []
        assert kept.get(ME, artifact_id).session_ids == ("one", "two")
        assert kept.usage().used_bytes == len(PNG)


async def test_deleting_is_for_every_session_and_making_it_again_begins_anew(
    store: ArtifactStore, tmp_path: Path
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "one")
    await keep(store, tmp_path, PNG, "two")

    await store.delete(ME, artifact_id)
    assert listed(store, "one") == listed(store, "two") == []

    await keep(store, tmp_path, PNG, "three")
    assert store.get(ME, artifact_id).session_ids == ("three",)


async def test_leftovers_of_a_crash_are_swept_and_what_is_missing_is_said(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    for name in (
        "c" * 64 + ".abcd1234.part",
        "d" * 64 + ".json.abcd1234.part",
        "tmpabcd_123.part",
    ):
        (folder / name).write_bytes(b"half")
    (folder / ("b" * 64 + ".json")).write_text("{}")

    with caplog.at_level("INFO", "deviceops.artifacts"):
        await opened(folder, clock)

    assert list(folder.iterdir()) == []
    swept, missing = (
        each.message for each in caplog.records if each.name == "deviceops.artifacts"
    )
    assert swept.startswith("3 unfinished files")
    assert missing.startswith("1 artifacts")
    assert "b" * 64 in missing


async def test_the_hash_of_a_finished_file_is_not_computed_again(
    store: ArtifactStore, tmp_path: Path
) -> None:
    """It lies in a folder of the front's own and was hashed when it came there."""
    path = tmp_path / "spooled"
    path.write_bytes(PNG)
    known = "0" * 64

    await store.adopt(path, known, ME.name, session_id="s")

    assert store.get(ME, known).size_bytes == len(PNG)
    assert await joined(store.read(ME, known)) == PNG
    assert not path.exists()


async def test_the_least_recently_used_gives_way_to_the_quota(
    tmp_path: Path, clock: Clock
) -> None:
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=25)
    first = await keep(store, tmp_path, b"a" * 10)
    second = await keep(store, tmp_path, b"b" * 10)
    await joined(store.read(ME, first))

    third = await keep(store, tmp_path, b"c" * 10)

    assert store.get(ME, first)
    assert store.get(ME, third)
    with pytest.raises(NotFound):
        store.get(ME, second)
    assert store.usage().used_bytes == 20


async def test_more_than_the_whole_quota_is_refused(tmp_path: Path, clock: Clock) -> None:
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=25)
    kept = await keep(store, tmp_path, b"a" * 10)

    with pytest.raises(ResourceExhausted) as refusal:
        await keep(store, tmp_path, b"b" * 26)

    assert refusal.value.metadata == {"needed_bytes": "26", "quota_bytes": "25"}
    assert store.get(ME, kept)


async def test_retention_counts_from_the_last_use(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    used = await keep(store, tmp_path, b"used")
    unused = await keep(store, tmp_path, b"unused")
    clock.moment += timedelta(seconds=50)
    await joined(store.read(ME, used))
    clock.moment += timedelta(seconds=50)

    await keep(store, tmp_path, b"newest")

    assert store.get(ME, used)
    with pytest.raises(NotFound):
        store.get(ME, unused)


async def test_nothing_that_is_read_is_deleted(store: ArtifactStore, tmp_path: Path) -> None:
    artifact_id = await keep(store, tmp_path, PNG)
    reading = store.read(ME, artifact_id)
    await anext(reading)

    with pytest.raises(FailedPrecondition):
        await store.delete(ME, artifact_id)

    await reading.aclose()  # type: ignore[attr-defined]
    await store.delete(ME, artifact_id)
    with pytest.raises(NotFound):
        store.get(ME, artifact_id)


async def test_what_is_being_read_outlives_the_quota_and_its_retention(
    tmp_path: Path, clock: Clock
) -> None:
    """The least recently used goes first, unless somebody reads it just now."""
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=25)
    read = await keep(store, tmp_path, b"a" * 10)
    reading = store.read(ME, read)
    assert await anext(reading) == b"a" * 10
    unread = await keep(store, tmp_path, b"b" * 10)

    third = await keep(store, tmp_path, b"c" * 10)

    assert {read, third} <= set(listed(store, ""))
    assert unread not in listed(store, "")
    clock.moment += timedelta(seconds=120)
    fourth = await keep(store, tmp_path, b"d" * 5)
    assert set(listed(store, "")) == {read, fourth}

    await reading.aclose()  # type: ignore[attr-defined]
    fifth = await keep(store, tmp_path, b"e" * 5)
    assert set(listed(store, "")) == {fourth, fifth}


async def test_what_accepted_work_needs_outlives_the_quota_its_retention_and_a_delete(
    tmp_path: Path, clock: Clock
) -> None:
    """Of another client's work its owner does not learn."""
    needed: dict[str, set[str]] = {}
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=25, needed=lambda: needed)
    mine = await keep(store, tmp_path, b"a" * 10)
    theirs = await keep(store, tmp_path, b"b" * 10, owner="somebody")
    needed |= {mine: {ME.name}, theirs: {ME.name}}

    third = await keep(store, tmp_path, b"c" * 10)

    assert set(store.artifact_ids) == {mine, theirs, third}
    clock.moment += timedelta(seconds=120)
    await store.tidy()
    assert set(store.artifact_ids) == {mine, theirs}
    with pytest.raises(FailedPrecondition) as refusal:
        await store.delete(ME, mine)
    assert refusal.value.reason is Reason.STATE_CONFLICT
    assert refusal.value.metadata == {"state": "needed"}
    with pytest.raises(ResourceExhausted) as full:  # what comes could push out nothing
        await store.check_room_for(6)
    assert full.value.reason is Reason.STORAGE_QUOTA_EXCEEDED
    await store.check_room_for(5)
    await store.delete(Caller("somebody", Role.RUN), theirs)
    needed.clear()
    await store.tidy()
    assert not store.artifact_ids


class SlowFolder(ArtifactFolder):
    """Changes wait for `go`, and are counted while they do."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.at_once = self.most_at_once = 0
        self._counting = threading.Lock()

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        with self._counting:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.release()
        assert self.go.wait(20)
        try:
            yield
        finally:
            with self._counting:
                self.at_once -= 1

    def adopt(self, path: Path, artifact_id: str, claim: Claim) -> StoredFile:
        with self._change():
            return super().adopt(path, artifact_id, claim)

    def remove(self, artifact_id: str) -> None:
        with self._change():
            super().remove(artifact_id)


async def test_what_is_being_kept_is_kept_though_nobody_waits_for_it_any_more(
    tmp_path: Path, clock: Clock
) -> None:
    """A thread has it, which goes on: nothing lies in the folder that nobody knows of."""
    folder = SlowFolder(tmp_path / "artifacts")
    store = await opened(folder, clock)
    keeping = asyncio.create_task(keep(store, tmp_path, PNG))
    assert await asyncio.to_thread(folder.begun.acquire, timeout=20)
    keeping.cancel()
    await asyncio.sleep(0)
    folder.go.set()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert set(store.artifact_ids) == {hashlib.sha256(PNG).hexdigest()}
    assert store.usage().used_bytes == len(PNG)


async def test_the_newest_is_kept_whatever_is_read_meanwhile(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ArtifactFolder(tmp_path / "artifacts")
    store = await opened(folder, clock, quota_bytes=1000)
    await keep(store, tmp_path, b"expired")
    clock.moment += timedelta(seconds=30)
    large = await keep(store, tmp_path, b"l" * 600)
    clock.moment += timedelta(seconds=31)
    deletes, go, delete = threading.Event(), threading.Event(), folder.remove

    def remove(artifact_id: str) -> None:
        deletes.set()
        assert go.wait(20)
        delete(artifact_id)

    monkeypatch.setattr(folder, "remove", remove)
    keeping = asyncio.create_task(keep(store, tmp_path, b"n" * 500))
    assert await asyncio.to_thread(deletes.wait, 20)  # what has expired goes first
    chunks = store.read(ME, large)
    await anext(chunks)
    go.set()
    assert await keeping in store.artifact_ids
    await chunks.aclose()


async def test_two_sessions_that_finish_the_same_picture_at_once_both_have_it(
    tmp_path: Path, clock: Clock
) -> None:
    files = SlowFolder(tmp_path / "artifacts")
    store = await opened(files, clock)
    names = ("one", "two", "three")
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(PNG)
    digest = hashlib.sha256(PNG).hexdigest()
    adopting = [
        asyncio.ensure_future(store.adopt(path, digest, ME.name, session_id=path.name))
        for path in paths
    ]
    await asyncio.to_thread(files.begun.acquire)
    files.go.set()
    await asyncio.gather(*adopting)

    assert files.most_at_once == 1
    assert set(store.get(ME, digest).session_ids) == set(names)
    again = await opened(tmp_path / "artifacts", clock)
    assert set(again.get(ME, digest).session_ids) == set(names)


async def test_a_picture_made_again_while_it_is_deleted_is_there(
    tmp_path: Path, clock: Clock
) -> None:
    files = SlowFolder(tmp_path / "artifacts")
    files.go.set()
    store = await opened(files, clock)
    artifact_id = await keep(store, tmp_path, PNG, "one")
    files.go.clear()
    assert files.begun.acquire(timeout=20)

    deleting = asyncio.ensure_future(store.delete(ME, artifact_id))
    await asyncio.to_thread(files.begun.acquire)
    making = asyncio.ensure_future(keep(store, tmp_path, PNG, "two"))
    assert not await asyncio.to_thread(files.begun.acquire, timeout=0.1)
    files.go.set()
    await asyncio.gather(deleting, making)

    assert store.get(ME, artifact_id).session_ids == ("two",)
    assert await joined(store.read(ME, artifact_id)) == PNG


async def test_two_clients_delete_what_is_just_making_room(
    tmp_path: Path, clock: Clock
) -> None:
    files = SlowFolder(tmp_path / "artifacts")
    files.go.set()
    store = await opened(files, clock, quota_bytes=25)
    old = [await keep(store, tmp_path, bytes([n]) * 10) for n in range(2)]
    for _ in old:
        assert files.begun.acquire(timeout=20)
    files.go.clear()

    making = asyncio.ensure_future(keep(store, tmp_path, b"c" * 25))
    await asyncio.to_thread(files.begun.acquire)
    deleting = [asyncio.ensure_future(store.delete(ME, old[1])) for _ in range(2)]
    files.go.set()
    results = await asyncio.gather(making, *deleting, return_exceptions=True)

    assert listed(store, "") == [results[0]]
    assert all(isinstance(result, NotFound) for result in results[1:])


async def test_offsets_and_ids_are_checked(store: ArtifactStore, tmp_path: Path) -> None:
    artifact_id = await keep(store, tmp_path, PNG)

    with pytest.raises(OutOfRange) as refusal:
        await joined(store.read(ME, artifact_id, offset=len(PNG) + 1))
    assert refusal.value.metadata["size_bytes"] == str(len(PNG))
    for nonsense in ("", "../../etc/passwd", "A" * 64, "a" * 63):
        with pytest.raises(InvalidArgument):
            store.get(ME, nonsense)


async def test_a_file_cut_short_on_disk_is_data_loss(
    store: ArtifactStore, tmp_path: Path
) -> None:
    artifact_id = await keep(store, tmp_path, PNG)
    (tmp_path / "artifacts" / artifact_id).write_bytes(PNG[:3])

    with pytest.raises(DataLoss) as damage:
        await joined(store.read(ME, artifact_id))
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
    assert await joined(store.read(ME, kept)) == PNG
    assert await keep(store, tmp_path, b"more")  # space is back


async def test_lists_are_newest_first_and_filtered(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    picture = await keep(store, tmp_path, PNG, "one")
    clock.moment += timedelta(seconds=1)
    other = await keep(store, tmp_path, b"text", "two")

    everything = store.list(ME, ArtifactFilter())
    pictures = store.list(ME, ArtifactFilter(media_type_prefix="image/"))
    of_two = store.list(ME, ArtifactFilter(session_id="two"))

    assert [artifact.artifact_id for artifact in everything.items] == [other, picture]
    assert [artifact.artifact_id for artifact in pictures.items] == [picture]
    assert [artifact.artifact_id for artifact in of_two.items] == [other]


async def test_a_full_disk_keeps_nothing_from_going_that_is_over(
    store: ArtifactStore, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends for one of its owners alone is written down, which takes room."""
    shared = await keep(store, tmp_path, PNG, owner="ann")
    await keep(store, tmp_path, PNG, owner="bob")
    await store.update(Caller("bob", Role.RUN), shared, pinned=True)
    over = await keep(store, tmp_path, PNG + b"over")
    clock.moment += timedelta(seconds=61)

    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ArtifactFolder, "note", typed()(full))
    await store.tidy()

    assert set(store.artifact_ids) == {shared}
    assert not (tmp_path / "artifacts" / over).exists()


async def test_what_is_needed_by_work_that_comes_while_room_is_made_stays(
    tmp_path: Path, clock: Clock
) -> None:
    """Deleting one file takes a while, and work may be accepted meanwhile."""
    needed: dict[str, tuple[str, ...]] = {}

    class Files(ArtifactFolder):
        def remove(self, artifact_id: str) -> None:
            needed[second] = (ME.name,)
            super().remove(artifact_id)

    for over in (False, True):
        needed.clear()
        files = Files(tmp_path / f"artifacts-{over}")
        store = await opened(files, clock, 20 if over else 10, needed=lambda: needed)
        first, second = [await keep(store, tmp_path, text) for text in (b"11111", b"22222")]
        if over:
            clock.moment += timedelta(seconds=61)
            await store.tidy()
        else:
            await keep(store, tmp_path, b"33333333")

        assert first not in store.artifact_ids
        assert second in store.artifact_ids, "an accepted request has it as its picture"


async def test_what_is_kept_again_while_its_file_is_missed_is_there(
    tmp_path: Path, clock: Clock
) -> None:
    """Its file was deleted from outside, and the same picture is drawn again."""
    missed, go_on = threading.Event(), threading.Event()

    class Files(ArtifactFolder):
        def missing(self, artifact_ids: Iterable[str]) -> list[str]:
            found = super().missing(artifact_ids)
            missed.set()
            go_on.wait(10)
            return found

    store = await opened(Files(tmp_path / "artifacts"), clock)
    name = await keep(store, tmp_path, PNG)
    (tmp_path / "artifacts" / name).unlink()
    look = asyncio.create_task(store.look(ME, name))
    await asyncio.to_thread(missed.wait, 10)
    await keep(store, tmp_path, PNG)
    go_on.set()

    assert (await look).artifact_id == name
    assert await joined(store.read(ME, name)) == PNG
