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
from domains.artifact.build import Built, build
from domains.artifact.core import ArtifactStore
from domains.clients import DEFAULT_CLIENT, Role
from domains.clock import Clock
from tests.callers import called
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
