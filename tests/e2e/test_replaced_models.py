"""Models whose files are replaced while accepted work waits: it is not done with others."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from deviceops.v1 import (
    batch_pb2,
    errors_pb2,
    event_pb2,
    processing_pb2,
    session_pb2,
)
from tests.e2e.test_durable_batches import FINAL, PAUSED, asked, create, item, until
from tests.e2e.test_restarts import get, kill, watch
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, small_request, start_server

REPLACED = errors_pb2.ERROR_REASON_MODEL_CHECKSUM_MISMATCH


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two tiny checkpoints."""
    save_sd1(tmp_path / "models" / "small")
    save_sd1(tmp_path / "models" / "other")
    return tmp_path / "models"


def replace_weights(model: Path) -> None:
    """Other numbers in a file of the same size, put in its place as editors do."""
    (file,) = (model / "unet").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    fresh = file.with_suffix(".new")
    fresh.write_bytes(data)
    os.replace(fresh, file)


async def begin(client: Client, model_id: str, *, steps: int = 2) -> str:
    """A detached generation that has been accepted."""
    request = small_request(model_id=model_id, steps=steps)
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    request.options.request_id = str(uuid.uuid4())
    call = client.inference.Generate(request, metadata=client.metadata)
    session_id = (await anext(aiter(call))).event.session_id
    call.cancel()
    return session_id


async def pause(client: Client, session_id: str) -> None:
    request = processing_pb2.PauseSessionRequest(session_id=session_id)
    await client.processing.PauseSession(request, metadata=client.metadata)


async def resume(client: Client, session_id: str) -> None:
    request = processing_pb2.ResumeSessionRequest(session_id=session_id)
    await client.processing.ResumeSession(request, metadata=client.metadata)


async def end_of(client: Client, session_id: str) -> event_pb2.SessionEvent:
    start = (await get(client, session_id)).session.first_sequence
    return (await watch(client, session_id, start))[-1]


async def test_work_fails_whose_model_was_replaced_while_it_waited_also_over_a_restart(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    batch_of_other = asked(item("one", model_id="other"))
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            before = await begin(client, "small", steps=60)
            waiting = await begin(client, "other")
            replace_weights(root / "other")
            # What comes now is for what is there now, whenever the server finds it.
            fresh = await begin(client, "other")
            failed = (await end_of(client, waiting)).failed.failure
            assert failed.reason == REPLACED
            assert failed.metadata["model_id"] == "other"
            assert (await end_of(client, fresh)).HasField("completed")
            assert (await end_of(client, before)).HasField("completed")

            before = await begin(client, "small", steps=60)
            kept, lost = await begin(client, "small"), await begin(client, "other")
            batch = await create(client, batch_of_other)
            await client.processing.PauseBatch(
                batch_pb2.PauseBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
            )
            await until(client, batch.batch_id, PAUSED)
            for each in (kept, lost):
                await pause(client, each)
            kill(running)
    replace_weights(root / "other")
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            # Why is told before its turn comes.
            assert (await end_of(client, lost)).failed.failure.reason == REPLACED
            await client.processing.ResumeBatch(
                batch_pb2.ResumeBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
            )
            (one,) = (await until(client, batch.batch_id, *FINAL)).items
            assert one.failure.reason == REPLACED, one
            await resume(client, kept)
            for each in (before, kept):
                assert (await end_of(client, each)).HasField("completed")
            _, files = await client.draw(small_request(model_id="other"))
            assert files
