"""Killing and draining real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio
import psutil
import pytest

from deviceops.v1 import errors_pb2, event_pb2, inference_pb2
from tests.e2e.errors import read
from tests.running import (
    RunningServer,
    alive,
    small_request,
    start_server,
)

GenerateCall: TypeAlias = (
    "grpc.aio.UnaryStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateResponse]"
)


def worker_of(server_id: int) -> int:
    """The process id of the server's only worker."""
    children = psutil.Process(server_id).children()
    (worker,) = (child for child in children if "server.worker" in " ".join(child.cmdline()))
    return worker.pid


async def until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait for something that other processes bring about."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.02)


async def until_step(call: GenerateCall, events: list[event_pb2.SessionEvent]) -> None:
    """Read a generation's stream up to its first finished step."""
    async for response in call:
        events.append(response.event)
        if response.event.HasField("step_finished"):
            return


async def test_work_whose_worker_is_killed_starts_over_and_is_the_same(
    server: RunningServer,
) -> None:
    # Of a model that no other test on this server loses a worker with: two within minutes are
    # held against it.
    work = small_request(steps=8, model_id="emoji-comic")
    async with server.client() as client:
        events: list[event_pb2.SessionEvent] = []
        call = client.generate(work)
        await until_step(call, events)
        worker = worker_of(server.process.pid)

        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()

        told_after = 0.0
        async for response in call:
            events.append(response.event)
            if response.event.HasField("retried"):
                told_after = time.monotonic() - killed
        again, _ = await client.draw(work)

        (retried,) = [event.retried for event in events if event.HasField("retried")]
        assert retried.retry_count == 1
        assert retried.cause.reason == errors_pb2.ERROR_REASON_WORKER_LOST
        assert 0 < told_after < 20  # its silence would be noticed after 30
        (picture,) = events[-1].completed.images
        assert picture.artifact_id == again[-1].completed.images[0].artifact_id
        assert worker_of(server.process.pid) != worker


@pytest.mark.demonstration
async def test_a_second_signal_ends_what_runs_at_once(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        async with server.client() as client:
            events: list[event_pb2.SessionEvent] = []
            call = client.generate(small_request(steps=150))
            await until_step(call, events)
            worker = worker_of(server.process.pid)

            server.process.send_signal(signal.SIGTERM)
            await until(lambda: '"draining"' in server.log(), 60)
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as end:
                await until_end(call)
            code = await asyncio.to_thread(server.process.wait, 30)

    told = read(end.value)
    assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert told.retry_seconds
    assert code == 0
    assert not alive(worker)


async def until_end(call: GenerateCall) -> None:
    async for _ in call:
        pass
