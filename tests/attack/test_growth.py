"""Ten thousand mixed calls leave memory, handles, threads and files where they were."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from deviceops.v1 import (
    artifact_pb2,
    device_pb2,
    inference_pb2,
    memory_pb2,
    model_pb2,
    processing_pb2,
    session_pb2,
)
from tests.e2e.memory_calls import CPU, HOST, free, lend
from tests.running import Client, RunningServer, small_request, start_server

CALLS = 10_000
AT_ONCE = 8
GENERATIONS = 24  # spread over the calls; each costs a fraction of a second
GROWTH_BYTES = 32 << 20  # of the front, over the second half of the calls
SEED = 20
KIB64 = 1 << 16

Act = Callable[[Client, random.Random], Awaitable[object]]


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    bytes: int
    handles: int
    threads: int
    temporary_files: int
    shared_memory: int

    @classmethod
    def of(cls, server: RunningServer) -> Footprint:
        """The front's own, and the files of the whole server."""
        process = psutil.Process(server.process.pid)
        spool = [path for path in (server.data_dir / "spool").rglob("*") if path.is_file()]
        return cls(
            bytes=process.memory_info().rss,
            handles=process.num_fds(),
            threads=process.num_threads(),
            temporary_files=len(spool),
            shared_memory=len(list(Path("/dev/shm").iterdir())),
        )


async def look(client: Client, rng: random.Random) -> None:
    """Unary calls that only read."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.device.ListDevices(
            device_pb2.ListDevicesRequest(), metadata=client.metadata
        ),
        lambda: client.device.GetDeviceStatus(
            device_pb2.GetDeviceStatusRequest(device_id="cpu:0"), metadata=client.metadata
        ),
        lambda: client.memory.GetMemoryStatus(
            memory_pb2.GetMemoryStatusRequest(), metadata=client.metadata
        ),
        lambda: client.model.ListModels(
            model_pb2.ListModelsRequest(), metadata=client.metadata
        ),
        lambda: client.processing.ListSessions(
            processing_pb2.ListSessionsRequest(), metadata=client.metadata
        ),
        lambda: client.artifact.ListArtifacts(
            artifact_pb2.ListArtifactsRequest(), metadata=client.metadata
        ),
    ]
    await rng.choice(calls)()


async def validate(client: Client, rng: random.Random) -> None:
    """Settings of many kinds, most of them wrong."""
    request = small_request("a" * rng.randrange(12_000), steps=rng.randrange(300))
    await client.inference.ValidateGeneration(
        inference_pb2.ValidateGenerationRequest(request=request),
        metadata=client.metadata,
    )


async def mistake(client: Client, rng: random.Random) -> None:
    """Calls that are refused: an unknown name, no token, an unbuilt method."""
    name = "".join(rng.choices("abcdefgh-", k=12))
    match rng.randrange(3):
        case 0:
            request = model_pb2.GetModelRequest(model_id=name)
            await client.model.GetModel(request, metadata=client.metadata)
        case 1:
            await client.device.ListDevices(device_pb2.ListDevicesRequest())
        case _:
            await client.draw(small_request(model_id=name))


async def borrow(client: Client, rng: random.Random) -> None:
    """Memory that is taken and given back."""
    place = rng.choice((HOST, CPU))
    await free(client, await lend(client, place, KIB64 * rng.randrange(1, 32)))


async def watch(client: Client, rng: random.Random) -> None:
    """A stream that is opened and left."""
    request = memory_pb2.WatchMemoryRequest()
    call = client.memory.WatchMemory(request, metadata=client.metadata)
    async for _ in call:
        break
    call.cancel()


async def draw(client: Client, rng: random.Random) -> None:
    """A picture; every third is left amid its steps."""
    request = small_request(steps=2, width=64 * rng.randrange(4, 6), seed=rng.randrange(4))
    call = client.generate(request)
    leave = rng.randrange(3) == 0
    async for response in call:
        if leave and response.event.HasField("step_finished"):
            call.cancel()
            break


def plan() -> list[Act]:
    """Which call comes when."""
    rng = random.Random(SEED)
    acts: list[Act] = rng.choices(
        [look, validate, mistake, borrow, watch], weights=[5, 2, 2, 1, 1], k=CALLS
    )
    for index in range(GENERATIONS):
        acts[index * CALLS // GENERATIONS] = draw
    return acts


async def run(client: Client, acts: list[Act], seed: int) -> list[grpc.StatusCode]:
    """Do them, some at once; the codes of those that were refused."""
    refused: list[grpc.StatusCode] = []
    waiting = iter(list(enumerate(acts)))

    async def work() -> None:
        for index, act in waiting:
            try:
                await act(client, random.Random(seed + index))
            except grpc.aio.AioRpcError as error:
                refused.append(error.code())

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return refused


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RunningServer]:
    with start_server(tmp_path, "--log-level", "warning") as running:
        yield running


async def test_mixed_calls_leave_everything_where_it_was(alone: RunningServer) -> None:
    acts = plan()
    half = len(acts) // 2
    async with alone.client() as client:
        refused = await run(client, acts[:half], SEED)
        await settled(client)
        middle = Footprint.of(alone)
        refused += await run(client, acts[half:], SEED + half)
        await settled(client)
        end = Footprint.of(alone)

    assert not {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN} & set(refused)
    assert end.bytes - middle.bytes < GROWTH_BYTES
    assert end.handles <= middle.handles + 2  # a connection more or less
    assert end.threads <= middle.threads + 2  # pools fill up to their bound
    assert end.temporary_files == middle.temporary_files == 0
    assert end.shared_memory <= middle.shared_memory


async def settled(client: Client) -> None:
    """Wait until nothing runs any more."""
    async with asyncio.timeout(120):
        while True:
            request = processing_pb2.ListSessionsRequest(
                filter={
                    "states": [
                        session_pb2.SESSION_STATE_RUNNING,
                        session_pb2.SESSION_STATE_QUEUED,
                    ]
                }
            )
            answer = await client.processing.ListSessions(request, metadata=client.metadata)
            if not answer.sessions:
                return
            await asyncio.sleep(0.1)  # nothing tells
