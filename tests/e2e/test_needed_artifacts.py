"""What accepted work names stays until it has ended, whatever else wants it gone."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from deviceops.v1 import artifact_pb2, batch_pb2, generation_pb2, processing_pb2, session_pb2
from tests.domains.picture.drawn import painting, saved
from tests.e2e.errors import refusal_of
from tests.e2e.test_durable_batches import FINAL, PAUSED, asked, create, item, root, until
from tests.e2e.test_restarts import get, kill, watch
from tests.e2e.uploading import uploaded
from tests.running import Client, small_request, start_server

__all__ = ["root"]


async def deleted(client: Client, artifact_id: str) -> None:
    request = artifact_pb2.DeleteArtifactRequest(artifact_id=artifact_id)
    await client.artifact.DeleteArtifact(request, metadata=client.metadata)


async def all_needed(client: Client, *artifact_ids: str) -> None:
    refusals = [await refusal_of(deleted(client, each)) for each in artifact_ids]
    assert [(each.reason, each.metadata["state"]) for each in refusals] == [
        ("STATE_CONFLICT", "needed")
    ] * len(artifact_ids)


async def kept(client: Client) -> set[str]:
    listed = await client.artifact.ListArtifacts(
        artifact_pb2.ListArtifactsRequest(), metadata=client.metadata
    )
    return {each.artifact_id for each in listed.artifacts}


def from_picture(artifact_id: str) -> generation_pb2.ImageToImage:
    result = generation_pb2.ImageToImage(strength=0.9)
    result.image.artifact_id = artifact_id
    return result


@pytest.mark.demonstration
async def test_pictures_of_a_batch_and_of_a_generation_that_wait_outlast_retention_and_a_kill(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--model-root", str(root))
    monkeypatch.setenv("DEVICEOPS_ARTIFACT_RETENTION_SECONDS", "1")
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            pictures = [
                await uploaded(client, saved(painting(240 + 8 * number, 256)))
                for number in range(4)
            ]
            early, late, single, idle = pictures
            batch = await create(
                client,
                asked(
                    item("slow", steps=80),
                    item("early", image_to_image=from_picture(early)),
                    keep_open=True,
                ),
            )
            more = batch_pb2.AddBatchItemsRequest(batch_id=batch.batch_id, seal=True)
            more.items.append(item("late", image_to_image=from_picture(late)))
            await client.processing.AddBatchItems(more, metadata=client.metadata)
            request = small_request(model_id="small", image_to_image=from_picture(single))
            request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
            request.options.request_id = str(uuid.uuid4())
            call = client.inference.Generate(request, metadata=client.metadata)
            session_id = (await anext(aiter(call))).event.session_id
            call.cancel()
            await client.processing.PauseSession(
                processing_pb2.PauseSessionRequest(session_id=session_id),
                metadata=client.metadata,
            )
            await client.processing.PauseBatch(
                batch_pb2.PauseBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
            )
            await until(client, batch.batch_id, PAUSED)
            await all_needed(client, early, late, single)
            async with asyncio.timeout(60):
                while idle in await kept(client):  # noqa: ASYNC110 - nobody needs that one
                    await asyncio.sleep(0.2)
            assert {early, late, single} <= await kept(client)
            kill(running)

    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            await all_needed(client, early, late, single)
            for ask in (
                client.processing.ResumeBatch(
                    batch_pb2.ResumeBatchRequest(batch_id=batch.batch_id),
                    metadata=client.metadata,
                ),
                client.processing.ResumeSession(
                    processing_pb2.ResumeSessionRequest(session_id=session_id),
                    metadata=client.metadata,
                ),
            ):
                await ask
            found = await until(client, batch.batch_id, *FINAL)
            assert found.batch.completed_count == 3, found
            start = (await get(client, session_id)).session.first_sequence
            assert (await watch(client, session_id, start))[-1].HasField("completed")
            async with asyncio.timeout(60):
                while {early, late, single} & await kept(client):  # noqa: ASYNC110 - tells nobody
                    await asyncio.sleep(0.2)
