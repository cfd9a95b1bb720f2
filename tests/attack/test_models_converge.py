"""Models that are loaded, unloaded, cached, evicted, deleted and drawn with at once."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio

from deviceops.v1 import (
    model_cache_pb2,
    model_pb2,
    model_task_pb2,
    processing_pb2,
    session_pb2,
)
from tests.attack.test_machine_faults import READY, until_state
from tests.domains.model.disk import DEMO, copy_demo
from tests.e2e.errors import Refusal, read
from tests.running import Client, small_request, start_server

SEED = 23
ROUNDS = 6
CLIENTS = 6
CHECKPOINTS = ("one", "two")
NETWORKS = ("canny", "vae")  # nobody draws with them alone
MODELS = (*CHECKPOINTS, *NETWORKS)
PASSING = "passing"  # somebody deletes it at some time
# Not loaded or not cached, in use, or the client's own cancel.
EXPECTED = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.CANCELLED}


async def drain(answers: AsyncIterator[object]) -> None:
    """Read a stream to its end."""
    async for _ in answers:
        pass


def drawn_with(model_id: str, rng: random.Random) -> str:
    return rng.choice(CHECKPOINTS) if model_id in NETWORKS else model_id


async def draw(client: Client, model_id: str, rng: random.Random) -> None:
    model_id, steps = drawn_with(model_id, rng), rng.randrange(1, 3)
    await client.draw(small_request(steps=steps, width=256, height=256, model_id=model_id))


async def leave(client: Client, model_id: str, rng: random.Random) -> None:
    call = client.generate(small_request(steps=50, model_id=drawn_with(model_id, rng)))
    async for answer in call:
        if answer.event.HasField("phase_started"):
            break
    call.cancel()


async def load(client: Client, model_id: str, rng: random.Random) -> None:
    request = model_pb2.LoadModelRequest(model_id=model_id, dry_run=rng.random() < 0.3)
    await drain(client.model.LoadModel(request, metadata=client.metadata))


async def break_off(client: Client, model_id: str, rng: random.Random) -> None:
    request = model_pb2.LoadModelRequest(model_id=model_id)
    call = client.model.LoadModel(request, metadata=client.metadata)
    async for answer in call:
        if answer.event.HasField("transfer_progress"):
            break
    call.cancel()


async def check(client: Client, model_id: str, rng: random.Random) -> None:
    deep = model_task_pb2.VALIDATION_DEPTH_DEEP
    request = model_task_pb2.ValidateModelRequest(model_id=model_id, depth=deep)
    await drain(client.model.ValidateModel(request, metadata=client.metadata))


async def unload(client: Client, model_id: str, rng: random.Random) -> None:
    request = model_pb2.UnloadModelRequest(model_id=model_id, keep_cached=rng.random() < 0.5)
    await drain(client.model.UnloadModel(request, metadata=client.metadata))


async def cache(client: Client, model_id: str, rng: random.Random) -> None:
    request = model_cache_pb2.CacheModelRequest(model_id=model_id)
    await drain(client.model.CacheModel(request, metadata=client.metadata))


async def evict(client: Client, model_id: str, rng: random.Random) -> None:
    request = model_cache_pb2.EvictModelRequest(model_id=model_id)
    await client.model.EvictModel(request, metadata=client.metadata)


async def delete(client: Client, _: str, rng: random.Random) -> None:
    request = model_pb2.DeleteModelRequest(model_id=PASSING)
    await client.model.DeleteModel(request, metadata=client.metadata)


async def refresh(client: Client, model_id: str, rng: random.Random) -> None:
    request = model_pb2.RefreshModelsRequest(full=rng.random() < 0.5)
    await drain(client.model.RefreshModels(request, metadata=client.metadata))


async def look(client: Client, model_id: str, rng: random.Random) -> None:
    found = await status(client, model_id)
    # One view: what lies on the device is there with its parts, and with no others.
    on_devices = [one for one in found.components if one.place.device_id]
    assert bool(found.loaded) is bool(on_devices)
    assert found.HasField("cached") is (len(on_devices) < len(found.components))
    assert {one.model_id for one in found.components} <= {model_id}


async def status(client: Client, model_id: str) -> model_pb2.GetModelStatusResponse:
    request = model_pb2.GetModelStatusRequest(model_id=model_id)
    found: model_pb2.GetModelStatusResponse = await client.model.GetModelStatus(
        request, metadata=client.metadata
    )
    return found


ACTS: list[Callable[[Client, str, random.Random], Awaitable[None]]] = [
    *(draw, leave, load, break_off, check, unload, cache, evict, delete, refresh, look),
]


async def test_models_come_to_rest_whatever_happens_at_once(tmp_path: Path) -> None:
    print(f"seeds {SEED} to {SEED + CLIENTS - 1}")
    root = tmp_path / "models"
    for name in (*CHECKPOINTS, PASSING):
        copy_demo(root / name)
    shutil.copytree(DEMO.parent / "emoji-canny", root / "canny")
    shutil.copytree(DEMO / "vae", root / "vae")
    refused: list[Refusal] = []

    async def work(client: Client, rng: random.Random) -> None:
        for _ in range(ROUNDS):
            try:
                await rng.choice(ACTS)(client, rng.choice((*MODELS, PASSING)), rng)
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is None or current.cancelling():
                    raise
            except grpc.aio.AioRpcError as error:
                refused.append(read(error))

    flags = ("--log-level", "warning", "--model-root", str(root))
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            await until_state(client, READY)
            first = small_request(steps=1, model_id="one")
            _, before = await client.draw(first)
            async with asyncio.timeout(300), asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(work(client, random.Random(SEED + number)))
            events, after = await client.draw(first)
            for model_id in MODELS:
                await load(client, model_id, random.Random(SEED))
                await drain(
                    client.model.LoadModel(
                        model_pb2.LoadModelRequest(model_id=model_id),
                        metadata=client.metadata,
                    )
                )
                assert (await status(client, model_id)).loaded
                await unload(client, model_id, random.Random(SEED))
                assert not (await status(client, model_id)).loaded
            try:
                await delete(client, "", random.Random(SEED))
            except grpc.aio.AioRpcError as error:
                refused.append(read(error))
            assert not (root / PASSING).exists()
            request = processing_pb2.ListSessionsRequest(page_size=500)
            listed = await client.processing.ListSessions(request, metadata=client.metadata)
        log = running.log()

    assert events[-1].HasField("completed")
    assert after == before
    missing = {
        one.metadata["model_id"] for one in refused if one.code is grpc.StatusCode.NOT_FOUND
    }
    assert missing <= {PASSING}
    assert {one.code for one in refused} <= {*EXPECTED, grpc.StatusCode.NOT_FOUND}
    assert {one.state for one in listed.sessions} <= {
        session_pb2.SESSION_STATE_COMPLETED,
        session_pb2.SESSION_STATE_CANCELLED,
        session_pb2.SESSION_STATE_FAILED,
    }
    assert "incident" not in log
    assert "background_work_failed" not in log
