"""ArtifactService through a real channel, over real files."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from deviceops.v1 import artifact_pb2, artifact_pb2_grpc
from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import ArtifactStore
from domains.artifact.servicer import ArtifactServicer
from tests.domains.wire import channel_to, refusal

Stub: TypeAlias = "artifact_pb2_grpc.ArtifactServiceAsyncStub"
PNG = b"\x89PNG\r\n\x1a\n" + b"picture"


@pytest.fixture
async def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(
        ArtifactFolder(tmp_path / "artifacts"),
        quota_bytes=100,
        retention=timedelta(days=1),
        now=lambda: datetime.now(UTC),
    )
    await store.start()
    return store


@pytest.fixture
async def stub(store: ArtifactStore) -> AsyncIterator[Stub]:
    servicer = ArtifactServicer(store)  # type: ignore[abstract]
    add = artifact_pb2_grpc.add_ArtifactServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield artifact_pb2_grpc.ArtifactServiceStub(channel)


async def keep(store: ArtifactStore, folder: Path, content: bytes, *sessions: str) -> str:
    digest = hashlib.sha256(content).hexdigest()
    for session_id in sessions:
        path = folder / "finished"
        path.write_bytes(content)
        await store.adopt(path, digest, session_id)
    return digest


async def test_an_artifact_is_described_listed_read_and_deleted(
    stub: Stub, store: ArtifactStore, tmp_path: Path
) -> None:
    artifact_id = await keep(store, tmp_path, PNG, "one", "two")

    described = (
        await stub.GetArtifact(artifact_pb2.GetArtifactRequest(artifact_id=artifact_id))
    ).artifact
    assert (described.size_bytes, described.media_type) == (len(PNG), "image/png")
    assert described.session_id == "one"
    assert described.expire_time.seconds > described.create_time.seconds
    for session_id in ("", "one", "two"):
        listed = await stub.ListArtifacts(
            artifact_pb2.ListArtifactsRequest(session_id=session_id)
        )
        assert list(listed.artifacts) == [described]
        assert (listed.used_bytes, listed.quota_bytes) == (len(PNG), 100)
    chunks = [
        chunk
        async for chunk in stub.DownloadArtifact(
            artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id, offset_bytes=3)
        )
    ]
    assert [(c.offset_bytes, c.total_bytes, c.data) for c in chunks] == [(3, len(PNG), PNG[3:])]
    await stub.DeleteArtifact(artifact_pb2.DeleteArtifactRequest(artifact_id=artifact_id))
    gone = await refusal(
        stub.GetArtifact(artifact_pb2.GetArtifactRequest(artifact_id=artifact_id))
    )
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")


async def test_what_cannot_be_an_id_is_named(stub: Stub) -> None:
    wrong = await refusal(stub.GetArtifact(artifact_pb2.GetArtifactRequest(artifact_id="../x")))

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
        page = await stub.ListArtifacts(request)
        (one,) = page.artifacts
        seen.append(one.artifact_id)
        request.page_token = page.next_page_token

    assert len(seen) == len(kept)
    assert set(seen) == kept
