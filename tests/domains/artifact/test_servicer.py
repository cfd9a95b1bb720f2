"""ArtifactService through a real channel, over real files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from deviceops.v1 import artifact_pb2, artifact_pb2_grpc
from domains.artifact.build import Built
from domains.artifact.core import ArtifactStore
from domains.clients import DEFAULT_CLIENT, Caller, Role
from domains.clock import Clock
from tests.callers import called
from tests.domains.artifact.stand import build
from tests.domains.wire import channel_to, refusal

Stub: TypeAlias = "artifact_pb2_grpc.ArtifactServiceAsyncStub"
ME = called(DEFAULT_CLIENT, Role.ADMIN)
PNG = b"\x89PNG\r\n\x1a\n" + b"picture"


@dataclass(frozen=True)
class Settings:
    data_dir: Path
    artifact_quota_bytes: int = 1_000_000
    artifact_min_free_bytes: int = 0
    artifact_retention_seconds: float = 86_400.0


@pytest.fixture
async def domain(tmp_path: Path) -> Built:
    built = build(Settings(tmp_path), clock=Clock())
    await built.start()
    return built


@pytest.fixture
def store(domain: Built) -> ArtifactStore:
    return domain.store


@pytest.fixture
async def stub(domain: Built) -> AsyncIterator[Stub]:
    add = artifact_pb2_grpc.add_ArtifactServiceServicer_to_server
    async with channel_to(add, domain.servicer) as channel:
        yield artifact_pb2_grpc.ArtifactServiceStub(channel)


async def keep(store: ArtifactStore, folder: Path, content: bytes, *sessions: str) -> str:
    digest = hashlib.sha256(content).hexdigest()
    for session_id in sessions:
        path = folder / "finished"
        path.write_bytes(content)
        await store.adopt(path, digest, DEFAULT_CLIENT, session_id=session_id)
    return digest


async def test_an_artifact_is_described_listed_read_and_deleted(
    stub: Stub, store: ArtifactStore, tmp_path: Path
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "one", "two")

    described = (
        await stub.GetArtifact(
            artifact_pb2.GetArtifactRequest(artifact_id=artifact_id), metadata=ME
        )
    ).artifact
    assert (described.size_bytes, described.media_type) == (len(PNG), "image/png")
    assert (described.session_id, described.owner) == ("one", DEFAULT_CLIENT)
    assert described.expire_time.seconds > described.create_time.seconds
    for session_id in ("", "one", "two"):
        listed = await stub.ListArtifacts(
            artifact_pb2.ListArtifactsRequest(session_id=session_id), metadata=ME
        )
        assert list(listed.artifacts) == [described]
    chunks = [
        chunk
        async for chunk in stub.DownloadArtifact(
            artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id, offset_bytes=3),
            metadata=ME,
        )
    ]
    assert [(c.offset_bytes, c.total_bytes, c.data) for c in chunks] == [(3, len(PNG), PNG[3:])]
    await stub.DeleteArtifact(
        artifact_pb2.DeleteArtifactRequest(artifact_id=artifact_id), metadata=ME
    )
    gone = await refusal(
        stub.GetArtifact(artifact_pb2.GetArtifactRequest(artifact_id=artifact_id), metadata=ME)
    )
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")


async def test_what_cannot_be_an_id_is_named(stub: Stub) -> None:
    wrong = await refusal(
        stub.GetArtifact(artifact_pb2.GetArtifactRequest(artifact_id="../x"), metadata=ME)
    )

    assert wrong.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (wrong.reason, wrong.fields) == ("NAME_INVALID", ("artifact_id",))


async def test_fewer_than_no_bytes_are_not_all_of_them(stub: Stub) -> None:
    asked = artifact_pb2.DownloadArtifactRequest(artifact_id="0" * 64, length_bytes=-1)
    wrong = await refusal(anext(aiter(stub.DownloadArtifact(asked, metadata=ME))))
    assert wrong.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (wrong.reason, wrong.fields) == ("FIELD_OUT_OF_RANGE", ("length_bytes",))


async def test_pages_of_artifacts_end_by_bytes_too(
    stub: Stub, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {await keep(store, tmp_path, bytes([n]), "s") for n in range(3)}
    monkeypatch.setattr("domains.paging.MAX_PAGE_BYTES", 1)
    request = artifact_pb2.ListArtifactsRequest()

    seen: list[str] = []
    while not seen or request.page_token:
        page = await stub.ListArtifacts(request, metadata=ME)
        (one,) = page.artifacts
        seen.append(one.artifact_id)
        request.page_token = page.next_page_token

    assert len(seen) == len(kept)
    assert set(seen) == kept


async def test_an_artifact_is_kept_otherwise(
    stub: Stub, store: ArtifactStore, tmp_path: Path
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "one")
    request = artifact_pb2.UpdateArtifactRequest(artifact_id=artifact_id, pinned=True)

    pinned = (await stub.UpdateArtifact(request, metadata=ME)).artifact
    assert pinned.pinned
    assert not pinned.HasField("expire_time")
    nothing = artifact_pb2.UpdateArtifactRequest(artifact_id=artifact_id)
    assert (await stub.UpdateArtifact(nothing, metadata=ME)).artifact == pinned
    request.pinned = False
    request.retention.seconds = 3600
    kept = (await stub.UpdateArtifact(request, metadata=ME)).artifact
    assert not kept.pinned
    assert 3590 <= kept.expire_time.seconds - time.time() <= 3600
    request.retention.seconds = 59
    refused = await refusal(stub.UpdateArtifact(request, metadata=ME))
    assert (refused.reason, refused.fields) == ("FIELD_OUT_OF_RANGE", ("retention",))


async def test_filters_arrive_whole(stub: Stub, store: ArtifactStore, tmp_path: Path) -> None:
    names = [await keep(store, tmp_path, content, "s") for content in (PNG, b"text")]

    async def listed(**wanted: Any) -> set[str]:
        answer = await stub.ListArtifacts(
            artifact_pb2.ListArtifactsRequest(**wanted), metadata=ME
        )
        return {artifact.artifact_id for artifact in answer.artifacts}

    assert await listed(artifact_ids=[names[1], "0" * 64]) == {names[1]}
    assert await listed(owner="nobody") == set()
    assert await listed(owner=DEFAULT_CLIENT) == set(names)
    assert await listed(media_type_prefix="image/") == {names[0]}
    assert await listed(created_after=Timestamp(seconds=int(time.time()) + 60)) == set()
    assert await listed(created_after=Timestamp(seconds=1)) == set(names)
    refused = await refusal(
        stub.ListArtifacts(
            artifact_pb2.ListArtifactsRequest(created_after=Timestamp(seconds=1 << 60)),
            metadata=ME,
        )
    )
    assert (refused.reason, refused.fields) == ("FIELD_OUT_OF_RANGE", ("created_after",))


async def test_a_caller_sees_its_own(stub: Stub, store: ArtifactStore, tmp_path: Path) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "one")
    request = artifact_pb2.GetArtifactRequest(artifact_id=artifact_id)

    refused = await refusal(stub.GetArtifact(request, metadata=called("ann")))
    assert refused.reason == "ARTIFACT_NOT_FOUND"
    assert (await stub.GetArtifact(request, metadata=called("root", Role.ADMIN))).artifact


async def test_labels_are_set_removed_and_listed_by(
    stub: Stub, store: ArtifactStore, tmp_path: Path
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "one")
    await keep(store, tmp_path, b"other", "one")

    async def changed(*removed: str, **labels: str) -> dict[str, str]:
        request = artifact_pb2.UpdateArtifactRequest(
            artifact_id=artifact_id, labels=labels, removed_labels=removed
        )
        answer = await stub.UpdateArtifact(request, metadata=ME)
        return dict(answer.artifact.labels)

    async def listed(**labels: str) -> list[str]:
        request = artifact_pb2.ListArtifactsRequest(labels=labels)
        answer = await stub.ListArtifacts(request, metadata=ME)
        return [artifact.artifact_id for artifact in answer.artifacts]

    assert await changed(project="sky", stage="draft") == {"project": "sky", "stage": "draft"}
    assert await changed(stage="final", note="") == {
        **{"project": "sky", "stage": "final", "note": ""}
    }
    assert await changed("note", "nothing") == {"project": "sky", "stage": "final"}
    assert await listed(project="sky") == [artifact_id]
    assert await listed(project="sky", stage="final") == [artifact_id]
    assert await listed(project="sky", stage="draft") == []
    assert await listed(note="") == []
    assert len(await listed()) == 2


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"labels": {"../x": "1"}}, "NAME_INVALID", "labels"),
        ({"labels": {"a": "x" * 129}}, "TEXT_TOO_LONG", "labels"),
        ({"labels": {"a": "x\ny"}}, "TEXT_INVALID", "labels"),
        ({"labels": {f"l{n}": "" for n in range(17)}}, "TOO_MANY_ELEMENTS", "labels"),
        ({"labels": {f"l{n}": "" for n in range(16)}}, "TOO_MANY_ELEMENTS", "labels"),
        ({"removed_labels": ["-"]}, "NAME_INVALID", "removed_labels[0]"),
        ({"removed_labels": ["l"] * 17}, "TOO_MANY_ELEMENTS", "removed_labels"),
        (
            {"labels": {"a": "1"}, "removed_labels": ["b", "a"]},
            *("FIELDS_CONFLICT", "removed_labels[1]"),
        ),
    ],
)
async def test_labels_that_cannot_be_are_refused(
    stub: Stub,
    store: ArtifactStore,
    tmp_path: Path,
    fields: dict[str, Any],
    reason: str,
    field: str,
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "one")
    known = artifact_pb2.UpdateArtifactRequest(artifact_id=artifact_id, labels={"mine": "1"})
    await stub.UpdateArtifact(known, metadata=ME)
    request = artifact_pb2.UpdateArtifactRequest(artifact_id=artifact_id, **fields)

    refused = await refusal(stub.UpdateArtifact(request, metadata=ME))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert refused.fields == (field,)
    assert store.get(Caller(DEFAULT_CLIENT, Role.RUN), artifact_id).labels == {"mine": "1"}


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"../x": "1"}, "NAME_INVALID"),
        ({"a": "x" * 129}, "TEXT_TOO_LONG"),
        ({f"l{n}": "" for n in range(17)}, "TOO_MANY_ELEMENTS"),
    ],
)
async def test_no_list_is_made_by_labels_that_cannot_be(
    stub: Stub, labels: dict[str, str], reason: str
) -> None:
    request = artifact_pb2.ListArtifactsRequest(labels=labels)

    refused = await refusal(stub.ListArtifacts(request, metadata=ME))

    assert (refused.reason, refused.fields) == (reason, ("labels",))
