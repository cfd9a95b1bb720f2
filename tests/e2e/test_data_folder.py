"""What happens to the data folder while a server runs: pictures damaged, deleted, their folders
gone. The same request draws them again, by the same worker."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import AsyncIterator

import grpc
import pytest
from PIL import Image

from deviceops.v1 import artifact_pb2, device_pb2, errors_pb2, event_pb2, processing_pb2
from tests.e2e.errors import refusal_of
from tests.running import Client, RunningServer, small_request


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with server.client() as connected:
        yield connected


async def drawn(client: Client, seed: int) -> tuple[str, str]:
    """A picture's id and its session's, after checking what came."""
    events, files = await client.draw(small_request(steps=1, seed=seed))
    [image] = events[-1].completed.images
    assert hashlib.sha256(files[0]).hexdigest() == image.artifact_id
    return image.artifact_id, events[-1].session_id


async def download(client: Client, artifact_id: str) -> bytes:
    request = artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id)
    call = client.artifact.DownloadArtifact(request, metadata=client.metadata)
    return b"".join([part.data async for part in call])


async def listed(client: Client) -> list[str]:
    answer = await client.artifact.ListArtifacts(
        artifact_pb2.ListArtifactsRequest(page_size=1000), metadata=client.metadata
    )
    return [artifact.artifact_id for artifact in answer.artifacts]


async def watched(client: Client, session_id: str) -> list[event_pb2.SessionEvent]:
    request = processing_pb2.WatchSessionRequest(session_id=session_id)
    call = client.processing.WatchSession(request, metadata=client.metadata)
    return [response.event async for response in call]


async def worker(client: Client) -> int:
    request = device_pb2.GetDeviceStatusRequest(device_id="cpu:0")
    answer = await client.device.GetDeviceStatus(request, metadata=client.metadata)
    return int(answer.worker.process_id)


@pytest.mark.demonstration
async def test_a_damaged_picture_is_refused_and_drawn_again(
    client: Client, server: RunningServer
) -> None:
    artifact_id, session_id = await drawn(client, 4001)
    path = server.data_dir / "artifacts" / artifact_id
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    refused = await refusal_of(download(client, artifact_id))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "DATA_CORRUPTED")
    assert artifact_id not in await listed(client)

    assert (await drawn(client, 4001))[0] == artifact_id
    whole = await download(client, artifact_id)
    assert hashlib.sha256(whole).hexdigest() == artifact_id
    found = await watched(client, session_id)
    assert found[-1].WhichOneof("event") == "completed"


@pytest.mark.demonstration
async def test_a_picture_is_made_small_by_a_process_without_rights(client: Client) -> None:
    artifact_id, _ = await drawn(client, 4011)
    request = artifact_pb2.GetThumbnailRequest(artifact_id=artifact_id, edge_pixels=64)

    small = await client.artifact.GetThumbnail(request, metadata=client.metadata)

    with Image.open(io.BytesIO(small.data)) as image:
        assert (image.format, image.size) == ("WEBP", (64, 64))
    assert (small.width, small.height, small.media_type) == (64, 64, "image/webp")


async def test_a_session_whose_picture_is_gone_is_watched_to_its_end(
    client: Client, server: RunningServer
) -> None:
    artifact_id, session_id = await drawn(client, 4002)
    (server.data_dir / "artifacts" / artifact_id).unlink()

    events = await watched(client, session_id)

    assert events[-1].WhichOneof("event") == "completed"
    [finished] = [e.image_finished for e in events if e.WhichOneof("event") == "image_finished"]
    assert finished.image.artifact_id == artifact_id
    assert finished.data_missing == errors_pb2.ERROR_REASON_ARTIFACT_NOT_FOUND
    assert not any(e.WhichOneof("event") == "image_chunk" for e in events)
    refused = await refusal_of(download(client, artifact_id))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")


async def test_folders_that_are_deleted_are_made_again_and_cost_no_worker(
    client: Client, server: RunningServer
) -> None:
    before = await worker(client)
    for seed, gone in enumerate((("artifacts",), ("spool",), ("artifacts", "spool")), 4003):
        for name in gone:
            shutil.rmtree(server.data_dir / name)
        artifact_id, _ = await drawn(client, seed)
        assert hashlib.sha256(await download(client, artifact_id)).hexdigest() == artifact_id
    assert await worker(client) == before
    for name in ("artifacts", "spool"):
        assert (server.data_dir / name).stat().st_mode & 0o777 == 0o700
