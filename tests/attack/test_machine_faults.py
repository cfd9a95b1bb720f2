"""A real server on a machine that gives it no more of something, and gives it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import psutil
import pytest

from deviceops.v1 import device_info_pb2, device_pb2
from tests.e2e.errors import read
from tests.e2e.test_faults import until, worker_of
from tests.running import Client, RunningServer, small_request, start_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sets limits of Linux")

READY, RECOVERING = device_info_pb2.DEVICE_STATE_READY, device_info_pb2.DEVICE_STATE_RECOVERING


@contextlib.contextmanager
def limited(server: RunningServer, which: int, amount: int) -> Iterator[None]:
    """The running server may have no more than that; workers to come inherit it."""
    before = resource.prlimit(server.process.pid, which)
    resource.prlimit(server.process.pid, which, (amount, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(server.process.pid, which, before)


async def device(client: Client) -> device_info_pb2.DeviceInfo:
    """The processor as it stands."""
    answer = await client.device.GetDevice(
        device_pb2.GetDeviceRequest(device_id="cpu:0"), metadata=client.metadata, timeout=120
    )
    return answer.device


async def until_state(
    client: Client, state: int, words: str = ""
) -> device_info_pb2.DeviceInfo:
    """Wait until the processor is in that state."""
    async with asyncio.timeout(240):
        while True:
            seen = await device(client)
            if seen.state == state and words in seen.explanation:
                return seen
            await asyncio.sleep(0.1)


async def drawn_in_the_end(client: Client) -> dict[int, bytes]:
    """Draw; while memory is short new work is refused for a moment."""
    async with asyncio.timeout(240):
        while True:
            try:
                return (await client.draw(small_request(steps=2)))[1]
            except grpc.aio.AioRpcError as error:
                if read(error).reason != "HOST_OUT_OF_MEMORY":
                    raise
                await asyncio.sleep(0.5)


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (resource.RLIMIT_NOFILE, "open files"),
        (resource.RLIMIT_AS, "memory"),
    ],
)
async def test_what_is_missing_is_said_and_waited_for(
    tmp_path: Path, which: int, words: str
) -> None:
    with start_server(tmp_path) as server:
        front = psutil.Process(server.process.pid)
        async with server.client() as client:
            await until_state(client, READY)
            _, before = await client.draw(small_request(steps=2))
            used = (
                front.num_fds() if which == resource.RLIMIT_NOFILE else front.memory_info().vms
            )
            with limited(server, which, used + 1):
                os.kill(worker_of(server.process.pid), signal.SIGKILL)
                await until_state(client, RECOVERING, words)
                # Longer than five attempts take, after which a device that is at fault rests.
                await asyncio.sleep(9)
                await until_state(client, RECOVERING, words)
                # An attempt may be under way; none leaves a process.
                await until(lambda: not front.children(), 120)
            after = await drawn_in_the_end(client)
        assert after == before
        assert server.log().count('"worker_starved"') == 1
        assert '"worker_starved_no_more"' in server.log()


def left_of_ours(folder: Path) -> list[Path]:
    """Temporary files that carry the product's name."""
    return list(folder.rglob("deviceops*"))


@pytest.mark.parametrize("folder", ["x" * 200, "missing"])
async def test_temporary_folders_are_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    temporary = tmp_path / folder
    if folder != "missing":
        temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with start_server(tmp_path / "data") as server:
        async with server.client() as client:
            await until_state(client, READY)
            _, files = await client.draw(small_request(steps=1))
            assert files
        # Libraries may leave theirs.
        assert left_of_ours(tmp_path) == []


async def test_without_anything_a_stop_is_quick(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        front = psutil.Process(server.process.pid)
        async with server.client() as client:
            await until_state(client, READY)
        with (
            limited(server, resource.RLIMIT_NOFILE, front.num_fds()),
            limited(server, resource.RLIMIT_AS, front.memory_info().vms),
        ):
            os.kill(worker_of(server.process.pid), signal.SIGKILL)
            await asyncio.sleep(2)
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 60) == 0
