"""Artifacts of several clients: kept once, and each client's own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from domains.artifact.core import ArtifactStore
from domains.artifact.types import Artifact, ArtifactFilter, LabelChange
from domains.clients import Caller, Role
from domains.errors import InvalidArgument, NotFound, Reason, ResourceExhausted
from tests.domains.artifact.test_store import PNG, Clock, joined, keep, opened
from tests.fakes.pictures import png

ANN, BOB = Caller("ann", Role.RUN), Caller("bob", Role.RUN)
ROOT = Caller("root", Role.ADMIN)
RETENTION = 60  # of `opened`


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> ArtifactStore:
    return await opened(tmp_path / "artifacts", clock)


def listed(store: ArtifactStore, caller: Caller, **wanted: object) -> list[Artifact]:
    return list(store.list(caller, ArtifactFilter(**wanted)).items)  # type: ignore[arg-type]


async def test_the_same_bytes_are_kept_once_and_belong_to_each(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    name = await keep(store, tmp_path, PNG, "anns", "ann")
    first = store.get(ANN, name)
    clock.moment += timedelta(seconds=7)
    assert await keep(store, tmp_path, PNG, "bobs", "bob") == name

    for kept in (store, await opened(tmp_path / "artifacts", clock)):
        assert kept.usage().used_bytes == len(PNG)
        anns, bobs = kept.get(ANN, name), kept.get(BOB, name)
        assert (anns.owner, anns.session_ids) == ("ann", ("anns",))
        assert (bobs.owner, bobs.session_ids) == ("bob", ("bobs",))
        # That somebody else had it before is not to be seen.
        assert anns.create_time == first.create_time
        assert bobs.create_time == first.create_time + timedelta(seconds=7)
        assert listed(kept, BOB) == [bobs]
        assert listed(kept, ANN, session_id="bobs") == []
        assert await joined(kept.read(BOB, name)) == PNG


async def test_what_is_anothers_does_not_exist(store: ArtifactStore, tmp_path: Path) -> None:
    name = await keep(store, tmp_path, PNG, "anns", "ann")

    with pytest.raises(NotFound):
        store.get(BOB, name)
    with pytest.raises(NotFound):
        await store.look(BOB, name)
    with pytest.raises(NotFound):
        await joined(store.read(BOB, name))
    with pytest.raises(NotFound):
        await store.update(BOB, name, pinned=True)
    with pytest.raises(NotFound):
        await store.delete(BOB, name)
    for wanted in ({}, {"owner": "ann"}, {"artifact_ids": (name,)}, {"session_id": "anns"}):
        assert listed(store, BOB, **wanted) == []
    assert store.get(ANN, name)


async def test_an_admin_sees_everybodys(store: ArtifactStore, tmp_path: Path) -> None:
    name = await keep(store, tmp_path, PNG, "anns", "ann")
    await keep(store, tmp_path, PNG, "bobs", "bob")
    own = await keep(store, tmp_path, b"own", "roots", "root")

    assert store.get(ROOT, name).owner == "ann"
    assert {(a.artifact_id, a.owner) for a in listed(store, ROOT)} == {
        *((name, "ann"), (name, "bob"), (own, "root"))
    }
    assert [a.owner for a in listed(store, ROOT, owner="bob")] == ["bob"]
    assert await joined(store.read(ROOT, name)) == PNG


async def test_deleting_is_for_oneself(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    name = await keep(store, tmp_path, PNG, "anns", "ann")
    await keep(store, tmp_path, PNG, "bobs", "bob")

    await store.delete(ANN, name)

    for kept in (store, await opened(tmp_path / "artifacts", clock)):
        assert listed(kept, ANN) == []
        assert await joined(kept.read(BOB, name)) == PNG
    await store.delete(BOB, name)
    assert store.usage().used_bytes == 0
    assert list((tmp_path / "artifacts").iterdir()) == []


async def test_each_keeps_it_as_long_as_it_uses_it(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    name = await keep(store, tmp_path, PNG, "anns", "ann")
    await keep(store, tmp_path, PNG, "bobs", "bob")
    clock.moment += timedelta(seconds=RETENTION - 1)
    await joined(store.read(BOB, name))
    clock.moment += timedelta(seconds=2)
    await store.tidy()

    for kept in (store, await opened(tmp_path / "artifacts", clock)):
        assert listed(kept, ANN) == []
        assert len(listed(kept, BOB)) == 1


# Retention and pins.


async def test_a_retention_is_applied_and_remembered(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    longer = await keep(store, tmp_path, b"longer", owner="ann")
    usual = await keep(store, tmp_path, b"usual", owner="ann")
    updated = await store.update(ANN, longer, retention_seconds=200)

    assert updated == store.get(ANN, longer)
    assert updated.expire_time == clock.moment + timedelta(seconds=200)
    store = await opened(tmp_path / "artifacts", clock)
    clock.moment += timedelta(seconds=199)
    await store.tidy()
    assert [a.artifact_id for a in listed(store, ANN)] == [longer]
    with pytest.raises(NotFound):
        store.get(ANN, usual)
    await joined(store.read(ANN, longer))  # used again
    clock.moment += timedelta(seconds=199)
    await store.tidy()
    assert listed(store, ANN)
    clock.moment += timedelta(seconds=2)
    await store.tidy()
    assert listed(store, ANN) == []


async def test_a_shorter_retention_counts_from_now(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    store = await opened(tmp_path / "artifacts", clock)
    name = await keep(store, tmp_path, PNG, owner="ann")
    await store.update(ANN, name, retention_seconds=3600)
    await store.update(ANN, name, retention_seconds=60)
    clock.moment += timedelta(seconds=61)
    await store.tidy()
    assert listed(store, ANN) == []


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 59.9, 31_536_001.0, float("nan")])
async def test_a_retention_has_bounds(
    store: ArtifactStore, tmp_path: Path, seconds: float
) -> None:
    name = await keep(store, tmp_path, PNG, owner="ann")
    before = store.get(ANN, name)
    with pytest.raises(InvalidArgument) as refused:
        await store.update(ANN, name, retention_seconds=seconds)
    assert refused.value.violations[0].field == "retention"
    assert store.get(ANN, name) == before


async def test_what_is_pinned_stays_until_it_is_deleted(tmp_path: Path, clock: Clock) -> None:
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=40)
    pinned = await keep(store, tmp_path, b"p" * 10, owner="ann")
    assert (await store.update(ANN, pinned, pinned=True)).expire_time is None
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=40)
    clock.moment += timedelta(days=1000)
    await store.tidy()
    for number in range(8):
        await keep(store, tmp_path, bytes([number]) * 10, owner="bob")
    assert store.get(ANN, pinned).pinned
    assert store.usage().used_bytes == 40

    unpinned = await store.update(ANN, pinned, pinned=False)
    assert unpinned.expire_time == clock.moment + timedelta(seconds=RETENTION)
    clock.moment += timedelta(seconds=RETENTION)
    await store.tidy()
    assert listed(store, ANN) == []


async def test_pins_leave_room_for_others(tmp_path: Path, clock: Clock) -> None:
    store = await opened(tmp_path / "artifacts", clock, quota_bytes=80)
    names = [await keep(store, tmp_path, bytes([n]) * 10, owner="ann") for n in range(5)]
    for name in names[:4]:
        await store.update(ANN, name, pinned=True)
    with pytest.raises(ResourceExhausted) as refused:
        await store.update(ANN, names[4], pinned=True)
    assert refused.value.reason is Reason.STORAGE_QUOTA_EXCEEDED
    assert refused.value.metadata == {"needed_bytes": "10", "limit_bytes": "40"}
    assert not store.get(ANN, names[4]).pinned
    bobs = await keep(store, tmp_path, b"b" * 10, owner="bob")
    await store.update(BOB, bobs, pinned=True)

    with pytest.raises(ResourceExhausted) as too_large:
        await keep(store, tmp_path, b"x" * 31, owner="ann")
    assert too_large.value.metadata["pinned_bytes"] == "50"
    await keep(store, tmp_path, b"x" * 30, owner="ann")
    assert store.usage().used_bytes <= 80


# Lists.


async def test_a_list_is_asked_for_by_ids_and_by_time(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    names = []
    for number in range(3):
        names.append(await keep(store, tmp_path, bytes([number]), owner="ann"))
        clock.moment += timedelta(seconds=1)
    strange = "f" * 64

    there = listed(store, ANN, artifact_ids=(names[0], strange, names[2], names[0]))
    assert [a.artifact_id for a in there] == [names[2], names[0]]
    second = store.get(ANN, names[1]).create_time
    newer = listed(store, ANN, created_after=second)
    assert [a.artifact_id for a in newer] == [names[2], names[1]]


async def test_pages_repeat_and_leave_out_nothing_whatever_comes_and_goes(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    names = []
    for number in range(6):
        names.append(await keep(store, tmp_path, bytes([number]), owner="ann"))
        clock.moment += timedelta(seconds=1)
    first = store.list(ANN, ArtifactFilter(), page_size=2)
    await keep(store, tmp_path, b"new", owner="ann")
    await store.delete(ANN, names[4])  # the last of the first page

    second = store.list(ANN, ArtifactFilter(), page_size=10, page_token=first.next_page_token)

    assert [a.artifact_id for a in first.items] == [names[5], names[4]]
    assert [a.artifact_id for a in second.items] == names[3::-1]
    assert not second.next_page_token


@pytest.mark.parametrize(
    ("wanted", "reason", "field"),
    [
        ({"artifact_ids": ("x",)}, Reason.NAME_INVALID, "artifact_ids[0]"),
        ({"artifact_ids": ("a" * 64,) * 1001}, Reason.TOO_MANY_ELEMENTS, "artifact_ids"),
        ({"owner": "../x"}, Reason.NAME_INVALID, "owner"),
    ],
)
async def test_filters_are_checked(
    store: ArtifactStore, wanted: dict[str, object], reason: Reason, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        listed(store, ANN, **wanted)
    (broken,) = refused.value.violations
    assert (broken.reason, broken.field) == (reason, field)


async def test_a_picture_has_its_size(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    name = await keep(store, tmp_path, png(264, 320), owner="ann")
    text = await keep(store, tmp_path, b"text", owner="ann")

    for kept in (store, await opened(tmp_path / "artifacts", clock)):
        assert (kept.get(ANN, name).width, kept.get(ANN, name).height) == (264, 320)
        assert (kept.get(ANN, text).width, kept.get(ANN, text).height) == (0, 0)


# Labels.


async def test_labels_are_each_owners_and_outlive_the_server(
    store: ArtifactStore, tmp_path: Path, clock: Clock
) -> None:
    name = await keep(store, tmp_path, PNG, "anns", "ann")
    await store.update(ANN, name, labels=LabelChange({"whose": "anns", "mood": "ü"}))
    await keep(store, tmp_path, PNG, "bobs", "bob")
    await store.update(BOB, name, labels=LabelChange({"whose": "bobs"}))
    await keep(store, tmp_path, PNG, "again", "ann")

    for kept in (store, await opened(tmp_path / "artifacts", clock)):
        assert kept.get(ANN, name).labels == {"whose": "anns", "mood": "ü"}
        assert kept.get(BOB, name).labels == {"whose": "bobs"}
        assert listed(kept, BOB, labels={"whose": "anns"}) == []
        assert [a.owner for a in listed(kept, ROOT, labels={"whose": "anns"})] == ["ann"]
