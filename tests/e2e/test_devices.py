"""Devices over a real channel: a real worker is measured, killed, drained and replaced."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    errors_pb2,
    event_pb2,
    inference_pb2,
    session_pb2,
)
from tests.e2e.errors import read
from tests.running import Client, RunningServer, alive, small_request, start_server

CPU = "cpu:0"
BALANCED = device_info_pb2.OPTIMIZATION_PROFILE_BALANCED
LOW_MEMORY = device_info_pb2.OPTIMIZATION_PROFILE_LOW_MEMORY
LOST = device_pb2.DEVICE_EVENT_KIND_LOST
RECOVERED = device_pb2.DEVICE_EVENT_KIND_RECOVERED


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with server.client() as connected:
        yield connected


async def capabilities(client: Client) -> device_pb2.GetDeviceCapabilitiesResponse:
    request = device_pb2.GetDeviceCapabilitiesRequest(device_id="CPU")
    return await client.device.GetDeviceCapabilities(
        request, metadata=client.metadata, timeout=120
    )


async def status(client: Client) -> device_pb2.GetDeviceStatusResponse:
    request = device_pb2.GetDeviceStatusRequest(device_id=CPU)
    return await client.device.GetDeviceStatus(request, metadata=client.metadata)


async def optimize(
    client: Client, profile: device_info_pb2.OptimizationProfile
) -> device_info_pb2.OptimizationReport:
    """Apply a profile; the report of its last event."""
    request = device_pb2.OptimizeDeviceRequest(device_id=CPU, profile=profile)
    call = client.device.OptimizeDevice(request, metadata=client.metadata)
    answers = [answer async for answer in call]
    assert answers[-1].event.completed.WhichOneof("report") == "optimization"
    return answers[-1].event.completed.optimization


async def restart(client: Client, *, force: bool) -> list[event_pb2.SessionEvent]:
    request = device_pb2.RestartWorkerRequest(device_id=CPU, force=force)
    call = client.device.RestartWorker(request, metadata=client.metadata)
    return [answer.event async for answer in call]


async def drawing(client: Client, steps: int) -> Any:
    """The call of a generation that has begun to draw."""
    call = client.generate(small_request(steps=steps))
    while (await call.read()).event.WhichOneof("event") != "step_finished":
        pass
    return call


async def test_what_the_processor_can_do_is_measured_and_kept(client: Client) -> None:
    measured = await capabilities(client)
    again = await capabilities(client)

    assert measured.device_id == CPU
    works = {each.data_type: each for each in measured.data_types if each.works}
    float32 = works[common_pb2.TENSOR_DATA_TYPE_FLOAT32]
    assert 0 < float32.max_relative_error < 1e-4
    assert float32.matmul_tflops > 0
    assert common_pb2.TENSOR_DATA_TYPE_FLOAT64 in works
    assert measured.has_float64
    assert measured.largest_allocation.value_bytes >= 1 << 20
    assert device_pb2.ATTENTION_BACKEND_MATH in measured.attention_backends
    assert measured.host_to_device_gbps > 0
    assert measured.software_versions["torch"]
    assert again == measured  # the time of measurement too


async def test_status_and_memory_tell_what_the_worker_told(client: Client) -> None:
    told = await status(client)
    request = device_pb2.GetDeviceMemoryRequest(device_id=CPU)
    memory = (await client.device.GetDeviceMemory(request, metadata=client.metadata)).memory

    assert told.device.state == device_info_pb2.DEVICE_STATE_READY
    assert 0 <= told.load <= 1
    assert not told.HasField("power_watts")
    assert (told.queue_depth, told.session_id) == (0, "")
    assert alive(told.worker.process_id)
    assert told.worker.software_versions["torch"]
    assert 0 < memory.free.value_bytes < memory.total.value_bytes
    assert memory.reserved.value_bytes > 0
    assert memory.reserved.source


async def test_a_profile_is_measured_and_outlives_a_killed_worker_which_watchers_see(
    client: Client,
) -> None:
    watch = client.device.WatchDevices(
        device_pb2.WatchDevicesRequest(device_id="cpu"), metadata=client.metadata
    )
    assert (await watch.read()).kind == device_pb2.DEVICE_EVENT_KIND_ADDED
    snapshot_end = await watch.read()
    assert snapshot_end.kind == device_pb2.DEVICE_EVENT_KIND_SNAPSHOT_END
    try:
        report = await optimize(client, LOW_MEMORY)
        assert report.step_before.ToNanoseconds() > 0
        assert report.step_after.ToNanoseconds() > 0
        assert report.peak_memory_before.value_bytes > 0
        assert {change.before != change.after for change in report.changes} == {True}

        before = await status(client)
        assert before.profile == LOW_MEMORY
        assert before.loaded_model_id
        os.kill(before.worker.process_id, signal.SIGKILL)
        seen: list[int] = []
        events: list[device_pb2.WatchDevicesResponse] = []
        async with asyncio.timeout(60):
            while RECOVERED not in seen:
                events.append(event := await watch.read())
                seen.append(event.kind)

        told = [kind for kind in seen if kind in (LOST, RECOVERED)]
        assert told == [LOST, RECOVERED]
        (lost,) = (event for event in events if event.kind == LOST)
        assert lost.cause.reason == errors_pb2.ERROR_REASON_WORKER_LOST
        again = client.device.WatchDevices(
            device_pb2.WatchDevicesRequest(
                device_id="cpu", from_revision=snapshot_end.revision
            ),
            metadata=client.metadata,
        )
        missed = [await again.read() for _ in told]
        again.cancel()
        assert [event.kind for event in missed] == told
        after = await status(client)
        assert after.worker.restart_count == before.worker.restart_count + 1
        assert after.worker.process_id != before.worker.process_id
        assert list((await optimize(client, LOW_MEMORY)).changes) == []  # it was so already
    finally:
        watch.cancel()
        back = await optimize(client, BALANCED)
    assert {c.setting for c in back.changes} == {c.setting for c in report.changes}


@pytest.mark.demonstration
async def test_a_restart_lets_what_runs_end_first(client: Client) -> None:
    before = await status(client)
    call = await drawing(client, steps=8)

    events, drawn = await asyncio.gather(restart(client, force=False), _ending(call))

    phases = [e.phase_started.phase for e in events if e.WhichOneof("event") == "phase_started"]
    assert phases == [session_pb2.PHASE_DRAINING, session_pb2.PHASE_STARTING_WORKER]
    assert events[-1].WhichOneof("event") == "completed"
    assert drawn.WhichOneof("event") == "completed"
    assert drawn.event_time.ToNanoseconds() < events[-1].event_time.ToNanoseconds()
    assert (await status(client)).worker.process_id != before.worker.process_id
    assert not alive(before.worker.process_id)


@pytest.mark.demonstration
async def test_a_forced_restart_fails_what_runs(client: Client) -> None:
    call = await drawing(client, steps=150)

    events = await restart(client, force=True)

    assert events[-1].WhichOneof("event") == "completed"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _ending(call)
    assert (caught.value.code(), read(caught.value).reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "WORKER_LOST",
    )
    assert (await status(client)).device.state == device_info_pb2.DEVICE_STATE_READY


@pytest.mark.demonstration
async def test_default_and_measurements_survive_a_restart_of_the_server(
    tmp_path: Path,
) -> None:
    """The setting names a device that is not there; the client's word came later."""
    setting = ("--default-device", "cuda:7")
    listing = device_pb2.ListDevicesRequest()
    with start_server(tmp_path, *setting) as running:
        async with running.client() as client:
            listed = await client.device.ListDevices(listing, metadata=client.metadata)
            assert listed.default_device_id == ""
            await client.device.SetDefaultDevice(
                device_pb2.SetDefaultDeviceRequest(device_id="cpu"), metadata=client.metadata
            )
            measured = await capabilities(client)
    with start_server(tmp_path, *setting) as running:
        async with running.client() as client:
            listed = await client.device.ListDevices(listing, metadata=client.metadata)
            assert listed.default_device_id == CPU
            assert [d.device_id for d in listed.devices if d.is_default] == [CPU]
            assert await capabilities(client) == measured


async def _ending(call: Any) -> event_pb2.SessionEvent:
    """The last event of a generation."""
    last = inference_pb2.GenerateResponse()
    while (answer := await call.read()) is not grpc.aio.EOF:
        last = answer
    return last.event
