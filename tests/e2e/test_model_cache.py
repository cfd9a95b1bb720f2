"""Models in main memory: a real server, its worker, and what a client sees."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from deviceops.v1 import (
    device_pb2,
    event_pb2,
    memory_pb2,
    model_cache_pb2,
    model_info_pb2,
    model_pb2,
    processing_pb2,
    session_pb2,
)
from tests.domains.model.disk import copy_demo, edit, rewrite_header, sketch_demo
from tests.e2e.errors import Refusal, read
from tests.running import Client, RunningServer, start_server

DEMO, OTHER, HUGE = "emoji-xl", "other", "huge"
MIB = 1 << 20
PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="the arena of this system has no file"
)


def make_huge(model: Path) -> None:
    """Give a model an embedding of half a gigabyte, which takes no room on disk."""
    words = 1 << 19

    def grow(header: dict[str, Any]) -> None:
        for name, entry in header.items():
            if name.endswith("token_embedding.weight"):
                entry["shape"][0], entry["dtype"] = words, "F64"

    edit(model / "text_encoder" / "config.json", vocab_size=words)
    (weights,) = (model / "text_encoder").glob("*.safetensors")
    rewrite_header(weights, grow)


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """Another model to load beside the demo's, and one that takes long to read."""
    copy_demo(models / OTHER)
    make_huge(sketch_demo(models / HUGE))
    return models


@pytest.fixture
async def client(running: RunningServer) -> AsyncIterator[Client]:
    """A client of a server whose cache is empty and as large as it was set up to be."""
    async with running.client() as connected:
        await _emptied(connected)
        yield connected
        await _emptied(connected)


async def _emptied(client: Client) -> None:
    for model_id in await cached(client):
        await evict(client, model_id)
    await budget(client, None)


async def cache(client: Client, model_id: str, **fields: Any) -> list[event_pb2.SessionEvent]:
    request = model_cache_pb2.CacheModelRequest(model_id=model_id, **fields)
    call = client.model.CacheModel(request, metadata=client.metadata)
    return [answer.event async for answer in call]


async def evict(client: Client, model_id: str) -> int:
    request = model_cache_pb2.EvictModelRequest(model_id=model_id)
    return (await client.model.EvictModel(request, metadata=client.metadata)).freed_bytes


async def budget(client: Client, size: int | None) -> model_cache_pb2.GetCacheStatusResponse:
    request = model_cache_pb2.SetCacheBudgetRequest(budget_bytes=size)
    return (await client.model.SetCacheBudget(request, metadata=client.metadata)).cache


async def status(client: Client) -> model_cache_pb2.GetCacheStatusResponse:
    request = model_cache_pb2.GetCacheStatusRequest()
    return await client.model.GetCacheStatus(request, metadata=client.metadata)


async def cached(client: Client) -> list[str]:
    return [entry.model_id for entry in (await status(client)).entries]


async def load(client: Client, model_id: str) -> model_info_pb2.LoadedModel:
    request = model_pb2.LoadModelRequest(model_id=model_id)
    call = client.model.LoadModel(request, metadata=client.metadata)
    return [answer.event async for answer in call][-1].completed.loaded_model


async def restart(client: Client) -> None:
    request = device_pb2.RestartWorkerRequest(device_id="cpu")
    call = client.device.RestartWorker(request, metadata=client.metadata)
    assert [answer.event async for answer in call][-1].HasField("completed")


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return read(failed.value)


def taken(running: RunningServer) -> int:
    """Bytes of the server's arena that the system holds; its other files close at any time."""
    held = 0
    for handle in Path(f"/proc/{running.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if "deviceops-models" in os.readlink(handle):
                held += os.stat(handle).st_blocks * 512
    return held


async def test_a_model_is_read_once_and_told_everywhere(
    client: Client, running: RunningServer
) -> None:
    events = await cache(client, DEMO)

    moved = [e.transfer_progress for e in events if e.HasField("transfer_progress")]
    assert moved[-1].done_bytes == moved[-1].total_bytes > MIB
    assert events[0].accepted.kind == session_pb2.SESSION_KIND_MODEL_CACHE
    assert events[-1].completed.model.model_id == DEMO
    (entry,) = (await status(client)).entries
    assert entry.model_id == DEMO
    assert entry.size_bytes >= moved[-1].total_bytes
    assert entry.size_bytes == taken(running)
    found = await client.model.GetModelStatus(
        model_pb2.GetModelStatusRequest(model_id=DEMO), metadata=client.metadata
    )
    assert found.cached == entry
    held = await client.memory.GetModelMemory(
        memory_pb2.GetModelMemoryRequest(model_id=DEMO), metadata=client.metadata
    )
    assert any(
        one.place.HasField("host") and one.size.value_bytes == entry.size_bytes
        for one in held.components
    )
    assert await evict(client, DEMO) == entry.size_bytes
    assert taken(running) == 0
    assert await evict(client, DEMO) == 0


async def test_watchers_hear_of_what_comes_and_goes(client: Client) -> None:
    await cache(client, OTHER)
    call = client.model.WatchModels(
        model_pb2.WatchModelsRequest(), metadata=client.metadata, timeout=PATIENCE_SECONDS
    )
    seen = []
    async for answer in call:
        seen.append((answer.kind, answer.model.model_id, answer.cause))
        if answer.kind == model_pb2.MODEL_EVENT_KIND_SNAPSHOT_END:
            await cache(client, DEMO)
            await evict(client, DEMO)
        if answer.kind == model_pb2.MODEL_EVENT_KIND_EVICTED:
            break

    came, left = model_pb2.MODEL_EVENT_KIND_CACHED, model_pb2.MODEL_EVENT_KIND_EVICTED
    assert [one for one in seen if one[0] in (came, left)] == [
        (came, OTHER, model_pb2.EVICTION_CAUSE_UNSPECIFIED),
        (came, DEMO, model_pb2.EVICTION_CAUSE_UNSPECIFIED),
        (left, DEMO, model_pb2.EVICTION_CAUSE_REQUESTED),
    ]


@pytest.mark.demonstration
async def test_a_worker_loads_from_there_also_after_it_was_replaced(client: Client) -> None:
    await restart(client)  # others may have loaded it
    before = await status(client)
    await cache(client, DEMO)

    assert (await load(client, DEMO)).origin == model_info_pb2.MODEL_ORIGIN_CACHED
    await restart(client)
    assert (await load(client, DEMO)).origin == model_info_pb2.MODEL_ORIGIN_CACHED
    assert (await load(client, OTHER)).origin == model_info_pb2.MODEL_ORIGIN_DISK

    after = await status(client)
    assert after.hit_count - before.hit_count == 2
    assert after.miss_count - before.miss_count == 1


async def test_a_smaller_budget_costs_what_is_not_pinned(
    client: Client, running: RunningServer
) -> None:
    await cache(client, DEMO, pinned=True)
    await cache(client, OTHER)
    size = (await status(client)).used_bytes // 2

    assert [e.model_id for e in (await budget(client, size)).entries] == [DEMO]
    conflict = await refused(budget(client, size - 1))
    assert (conflict.code, conflict.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "STATE_CONFLICT",
    )
    full = await refused(cache(client, OTHER))
    assert (full.code, full.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "HOST_OUT_OF_MEMORY",
    )
    assert full.metadata["budget_bytes"] == str(size)
    await cache(client, DEMO)  # not pinned any more
    await cache(client, OTHER)
    assert await cached(client) == [OTHER]
    assert taken(running) == size


async def test_a_cancelled_reading_leaves_nothing(
    client: Client, running: RunningServer
) -> None:
    await budget(client, 4 << 30)
    request = model_cache_pb2.CacheModelRequest(model_id=HUGE)
    call = client.model.CacheModel(request, metadata=client.metadata)
    session_id = ""
    async for answer in call:
        session_id = answer.event.session_id
        if answer.event.HasField("transfer_progress"):
            call.cancel()
            break

    async with asyncio.timeout(PATIENCE_SECONDS):
        state = session_pb2.SESSION_STATE_UNSPECIFIED
        while state != session_pb2.SESSION_STATE_CANCELLED:
            found = await client.processing.GetSession(
                processing_pb2.GetSessionRequest(session_id=session_id),
                metadata=client.metadata,
            )
            state = found.session.state
            assert state != session_pb2.SESSION_STATE_COMPLETED
        while (await status(client)).used_bytes:  # noqa: ASYNC110 - told once it is given back
            await asyncio.sleep(0.01)
    assert taken(running) == 0


async def test_a_file_that_is_replaced_while_it_is_cached_is_let_go(
    client: Client, root: Path
) -> None:
    await cache(client, OTHER)
    weights = next((root / OTHER / "vae").glob("*.safetensors"))

    os.utime(weights, ns=(1, 1))

    async with asyncio.timeout(PATIENCE_SECONDS):
        while await cached(client):  # noqa: ASYNC110 - it takes as long as it takes
            await asyncio.sleep(0.05)
    await cache(client, OTHER)
    assert await cached(client) == [OTHER]


async def test_a_worker_that_is_killed_while_it_holds_a_lease_costs_nothing(
    client: Client,
) -> None:
    await budget(client, 4 << 30)
    await cache(client, HUGE)
    found = await client.device.GetDeviceStatus(
        device_pb2.GetDeviceStatusRequest(device_id="cpu"), metadata=client.metadata
    )
    request = model_pb2.LoadModelRequest(model_id=HUGE)
    call = client.model.LoadModel(request, metadata=client.metadata)
    while not (await call.read()).event.HasField("phase_started"):
        continue
    in_use = await refused(evict(client, HUGE))
    os.kill(found.worker.process_id, signal.SIGKILL)

    retried = 0
    while (response := await call.read()) is not grpc.aio.EOF:
        retried = max(retried, response.event.retried.retry_count)

    assert retried == 1  # with another worker it was loaded
    assert in_use.reason == "MODEL_IN_USE"
    assert await evict(client, HUGE) > 1 << 29  # nobody holds it any more


@pytest.mark.parametrize(
    ("model_id", "code", "reason"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT, "REQUIRED_FIELD_MISSING"),
        ("no-such", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
    ],
)
async def test_what_is_no_model_is_refused(
    client: Client, model_id: str, code: grpc.StatusCode, reason: str
) -> None:
    for call in (cache(client, model_id), evict(client, model_id)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (code, reason)


async def test_a_budget_out_of_range_is_refused(client: Client) -> None:
    for size in (-1, (1 << 50) + 1):
        refusal = await refused(budget(client, size))
        assert (refusal.reason, refusal.fields) == ("FIELD_OUT_OF_RANGE", ["budget_bytes"])


@pytest.mark.demonstration
async def test_the_front_is_as_large_after_many_cycles_as_before(
    client: Client, running: RunningServer
) -> None:
    front = psutil.Process(running.process.pid)
    await cache(client, DEMO)
    await evict(client, DEMO)
    handles, private = front.num_fds(), front.memory_full_info().uss
    for _ in range(30):
        await cache(client, DEMO)
        await evict(client, DEMO)

    assert taken(running) == 0
    assert front.num_fds() <= handles + 10
    assert front.memory_full_info().uss < private + 32 * MIB


@pytest.mark.demonstration
async def test_a_budget_survives_a_restart_until_the_setting_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting, chosen, found in ((50, 7, 7), (50, None, 7), (60, None, 60)):
        monkeypatch.setenv("DEVICEOPS_MODEL_CACHE_BYTES", str(setting * MIB))
        with start_server(tmp_path / "data") as server:
            async with server.client() as client:
                if chosen is not None:
                    await budget(client, chosen * MIB)
                assert (await status(client)).budget_bytes == found * MIB
