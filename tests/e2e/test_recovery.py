"""What hangs together is settled in order when a part is lost: docs/recovery.md."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from deviceops.v1 import device_pb2, errors_pb2, event_pb2, memory_pb2, model_pb2
from tests.e2e.errors import refusal_of
from tests.e2e.memory_calls import CPU, MIB, free, lend
from tests.e2e.test_faults import worker_of
from tests.running import Client, small_request, start_server

pytestmark = pytest.mark.demonstration
LOST, RECOVERED = device_pb2.DEVICE_EVENT_KIND_LOST, device_pb2.DEVICE_EVENT_KIND_RECOVERED
UNLOADED = model_pb2.MODEL_EVENT_KIND_UNLOADED


async def devices_seen(
    client: Client, seen: list[device_pb2.WatchDevicesResponse], watching: asyncio.Event
) -> None:
    """Note what becomes of the device until it is back; `watching` is set once that is seen."""
    watch = client.device.WatchDevices(
        device_pb2.WatchDevicesRequest(device_id="cpu"), metadata=client.metadata
    )
    async for event in watch:
        watching.set()
        seen.append(event)
        if event.kind == RECOVERED:
            return


async def unloaded(client: Client, watching: asyncio.Event) -> model_pb2.WatchModelsResponse:
    """The first time that a model leaves the device; `watching` is set once that is seen."""
    watch = client.model.WatchModels(model_pb2.WatchModelsRequest(), metadata=client.metadata)
    async for event in watch:
        watching.set()
        if event.kind == UNLOADED:
            return event
    raise AssertionError("no model left the device")


async def test_a_lost_device_settles_memory_models_and_sessions_and_comes_back(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(200):
        with start_server(tmp_path) as server:
            async with server.client() as client:
                first, _ = await client.draw(small_request(steps=3))  # the model is loaded
                lease = await lend(client, CPU, MIB)
                devices: list[device_pb2.WatchDevicesResponse] = []
                begun = asyncio.Event(), asyncio.Event()
                watching = asyncio.create_task(devices_seen(client, devices, begun[0]))
                leaving = asyncio.create_task(unloaded(client, begun[1]))
                for each in begun:  # else it waits forever for what it came too late for
                    await each.wait()
                events: list[event_pb2.SessionEvent] = []
                worker = worker_of(server.process.pid)
                async for response in client.generate(small_request(steps=40)):
                    event = response.event
                    events.append(event)
                    if worker and event.HasField("step_finished"):
                        os.kill(worker, signal.SIGKILL)
                        worker = 0
                    if event.HasField("retried"):
                        # Whoever hears of the session finds the rest settled.
                        listed = await client.memory.ListAllocations(
                            memory_pb2.ListAllocationsRequest(), metadata=client.metadata
                        )
                        gone = await refusal_of(free(client, lease))
                        model = await leaving
                (retried,) = [each for each in events if each.HasField("retried")]
                await watching
                again, _ = await client.draw(small_request(steps=3))

    assert not listed.allocations
    assert (gone.reason, gone.metadata["cause"]) == ("ALLOCATION_NOT_FOUND", "worker_lost")
    assert model.cause == model_pb2.EVICTION_CAUSE_WORKER_LOST
    (lost,) = [each for each in devices if each.kind == LOST]
    assert lost.cause.reason == errors_pb2.ERROR_REASON_WORKER_LOST
    assert retried.retried.cause.reason == errors_pb2.ERROR_REASON_WORKER_LOST
    *before, told = [each.event_time.ToNanoseconds() for each in (lost, model, retried)]
    assert max(before) <= told
    assert events[-1].HasField("completed")
    pictures = [each[-1].completed.images[0].artifact_id for each in (first, again)]
    assert pictures[0] == pictures[1]
