"""One model that is loaded, drawn with, moved out, profiled and restarted under at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from deviceops.v1 import device_info_pb2, device_pb2, memory_info_pb2, memory_pb2, model_pb2
from tests.attack.test_machine_faults import READY, until_state
from tests.e2e.errors import Refusal, read
from tests.e2e.memory_calls import CPU, free, lend
from tests.running import Client, RunningServer, small_request, start_server

SEED = 11
ROUNDS = 4
CLIENTS = 8
MIB = 1 << 20
# Work that a restart or a cancel ended, work that found the queue full or the device busy.
EXPECTED = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


async def drain(answers: AsyncIterator[object]) -> None:
    """Read a stream to its end."""
    async for _ in answers:
        pass


async def draw(client: Client, rng: random.Random) -> None:
    """A picture, to its end."""
    await client.draw(small_request(steps=rng.randrange(1, 4), seed=rng.randrange(4)))


async def leave(client: Client, rng: random.Random) -> None:
    """A picture that nobody waits for any more."""
    call = client.generate(small_request(steps=50))
    await asyncio.sleep(rng.random() / 2)
    call.cancel()


async def load(client: Client, rng: random.Random) -> None:
    """The model, ahead of work."""
    request = model_pb2.LoadModelRequest()
    await drain(client.model.LoadModel(request, metadata=client.metadata))


async def profile(client: Client, rng: random.Random) -> None:
    """Another way to run it."""
    chosen = rng.choice(
        (
            device_info_pb2.OPTIMIZATION_PROFILE_BALANCED,
            device_info_pb2.OPTIMIZATION_PROFILE_LOW_MEMORY,
        )
    )
    request = device_pb2.OptimizeDeviceRequest(device_id="cpu:0", profile=chosen)
    await drain(client.device.OptimizeDevice(request, metadata=client.metadata))


async def restart(client: Client, rng: random.Random) -> None:
    """A new process, whatever the old one does."""
    request = device_pb2.RestartWorkerRequest(device_id="cpu:0", force=rng.random() < 0.5)
    await drain(client.device.RestartWorker(request, metadata=client.metadata))


async def defragment(client: Client, rng: random.Random) -> None:
    """The model, out and in again."""
    request = memory_pb2.DefragmentRequest(
        device_id="cpu:0", depth=memory_info_pb2.DEFRAGMENT_DEPTH_RELOAD
    )
    await drain(client.memory.Defragment(request, metadata=client.metadata))


async def borrow(client: Client, rng: random.Random) -> None:
    """Memory beside the model's."""
    await free(client, await lend(client, CPU, MIB * rng.randrange(1, 16)))


ACTS: list[Callable[[Client, random.Random], Awaitable[None]]] = [
    *(draw, leave, load, profile, restart, defragment, borrow),
]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RunningServer]:
    with start_server(tmp_path, "--log-level", "warning") as running:
        yield running


async def test_everything_at_once_comes_to_rest_and_draws_the_same(
    alone: RunningServer,
) -> None:
    refused: list[Refusal] = []

    async def work(client: Client, rng: random.Random) -> None:
        for _ in range(ROUNDS):
            try:
                await rng.choice(ACTS)(client, rng)
            except grpc.aio.AioRpcError as error:
                refused.append(read(error))

    async with alone.client() as client:
        await until_state(client, READY)
        _, before = await client.draw(small_request(steps=2))
        async with asyncio.timeout(200), asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(work(client, random.Random(SEED + number)))
        _, after = await client.draw(small_request(steps=2))
        workers = psutil.Process(alone.process.pid).children()

    assert after == before
    unexpected = [one for one in refused if one.code not in EXPECTED or not one.reason]
    assert [one for one in unexpected if one.code is not grpc.StatusCode.CANCELLED] == []
    assert len([one for one in workers if "server.worker" in " ".join(one.cmdline())]) == 1
