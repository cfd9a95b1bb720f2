"""Memory or room in a queue that runs out, and a server that goes: what is said, what works
next, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest
from PIL import Image

from deviceops.v1 import (
    device_pb2,
    event_pb2,
    generation_pb2,
    inference_pb2,
    memory_history_pb2,
    memory_info_pb2,
    memory_pb2,
    postprocessing_pb2,
    processing_pb2,
)
from server.config import Settings
from tests.e2e.errors import read, refusal_of
from tests.e2e.memory_calls import CPU, HOST, MIB, free, lend
from tests.e2e.test_faults import until, until_step
from tests.running import Client, RunningServer, small_request, start_server

TOO_MUCH = 1 << 40
LENGTH = Settings.model_fields["queue_length_per_device"].default


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Without a quota memory itself is the limit."""
    config = tmp_path_factory.mktemp("exhaustion") / "config.toml"
    config.write_text("allocation_quota_bytes = 0\n", "utf-8")
    return ("--config", str(config))


@pytest.fixture(scope="module")
def unlimited(
    tmp_path_factory: pytest.TempPathFactory, flags: tuple[str, ...]
) -> Iterator[RunningServer]:
    with start_server(tmp_path_factory.mktemp("unlimited"), *flags) as running:
        yield running


@pytest.fixture
async def client(unlimited: RunningServer) -> AsyncIterator[Client]:
    async with unlimited.client() as made:
        yield made


async def history(client: Client) -> dict[str, memory_history_pb2.MemoryHistory]:
    """What is remembered of every place, second by second."""
    request = memory_history_pb2.GetMemoryAnalyticsRequest(points=1000)
    request.window.FromSeconds(500)
    told = await client.memory.GetMemoryAnalytics(request, metadata=client.metadata)
    return {one.place.device_id: one for one in told.histories}


async def failures(client: Client) -> int:
    """Out-of-memory failures of main memory."""
    return (await history(client))[""].out_of_memory_count


async def test_a_lease_that_does_not_fit_says_what_would_and_the_next_smaller_works(
    client: Client,
) -> None:
    await client.draw(small_request(steps=1))
    held: list[memory_info_pb2.ComponentMemory] = []
    async with asyncio.timeout(30):  # the worker tells at its next sign of life
        while not held or any(part.in_use for part in held):
            told = await client.memory.GetModelMemory(
                memory_pb2.GetModelMemoryRequest(), metadata=client.metadata
            )
            held = list(told.components)
            await asyncio.sleep(0.1)

    for place, reason in ((CPU, "DEVICE_OUT_OF_MEMORY"), (HOST, "HOST_OUT_OF_MEMORY")):
        much = await refusal_of(lend(client, place, TOO_MUCH))
        assert (much.code, much.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        assert much.metadata["needed_bytes"] == str(TOO_MUCH)
        assert 0 < int(much.metadata["free_bytes"]) < TOO_MUCH
        assert much.metadata["evictable_model_ids"] == held[0].model_id
        evictable = int(much.metadata["evictable_bytes"])
        assert evictable == sum(part.size.value_bytes for part in held)
        assert await free(client, await lend(client, place, MIB)) == MIB


@contextlib.contextmanager
def limited(worker: psutil.Process, more_bytes: int) -> Iterator[None]:
    """It may take so much more memory; what comes later may take all again."""
    _, hard = worker.rlimit(psutil.RLIMIT_AS)
    limit = worker.memory_info().vms + more_bytes
    worker.rlimit(psutil.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        worker.rlimit(psutil.RLIMIT_AS, (hard, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's memory")
async def test_a_picture_too_large_for_the_worker_fails_and_the_next_smaller_is_drawn(
    client: Client,
) -> None:
    """A real limit on the real worker: nothing in it is replaced."""
    _, before = await client.draw(small_request(steps=1))
    status = await client.device.GetDeviceStatus(
        device_pb2.GetDeviceStatusRequest(device_id="cpu:0"), metadata=client.metadata
    )
    worker = psutil.Process(status.worker.process_id)
    counted = await failures(client)
    large = small_request(steps=1, width=2048, height=2048)
    large.settings.precision.mode = generation_pb2.PRECISION_MODE_EXACT

    with limited(worker, 80 * MIB):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.draw(large)
        _, after = await client.draw(small_request(steps=1))

    told = read(failed.value)
    assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told.reason == "HOST_OUT_OF_MEMORY"
    assert int(told.metadata["needed_bytes"]) > 0
    assert int(told.metadata["free_bytes"]) > 0
    assert told.metadata["evictable_bytes"] == "0"  # it needs all that is loaded
    assert after == before
    assert worker.is_running()
    async with asyncio.timeout(30):  # failures are counted every second
        while await failures(client) != counted + 1:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's memory")
async def test_an_enlargement_too_large_for_the_worker_fails_and_a_smaller_one_is_done(
    client: Client,
) -> None:
    """A real limit again: the result alone is more than the worker may have."""

    async def ended(edge: int) -> event_pb2.SessionEvent:
        png = io.BytesIO()
        Image.new("RGB", (edge, edge), "teal").save(png, "PNG")
        request = postprocessing_pb2.ProcessImageRequest()
        request.steps.add().upscale.SetInParent()  # four times
        request.image.inline = png.getvalue()
        call = client.postprocessing.ProcessImage(request, metadata=client.metadata)
        return [each.event async for each in call][-1]

    before = await ended(64)
    status = await client.device.GetDeviceStatus(
        device_pb2.GetDeviceStatusRequest(device_id="cpu:0"), metadata=client.metadata
    )
    worker = psutil.Process(status.worker.process_id)

    with limited(worker, 150 * MIB):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await ended(2048)
        after = await ended(64)

    told = read(failed.value)
    assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told.reason == "HOST_OUT_OF_MEMORY"
    assert int(told.metadata["needed_bytes"]) >= (4 * 2048) ** 2 * 3
    assert 0 < int(told.metadata["free_bytes"]) < int(told.metadata["needed_bytes"])
    assert after.completed.images[0].artifact_id == before.completed.images[0].artifact_id
    assert worker.is_running()


async def test_a_full_queue_says_so_and_can_still_be_looked_at_and_emptied(
    client: Client,
) -> None:
    """Streams that are open for their sessions keep nobody from list, get and control."""
    long = small_request(steps=150, image_count=9)
    running = client.generate(long)
    accepted = [(await _first(running, "phase_started")).session_id]
    waiting = [client.generate(long) for _ in range(LENGTH)]
    queued = [await _first(stream, "accepted") for stream in waiting]
    accepted += [event.session_id for event in queued]
    places = sorted(event.accepted.queue_position for event in queued)
    assert places == list(range(1, LENGTH + 1))

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.draw(long)
    full = read(refused.value)
    assert (full.code, full.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert full.metadata["queue_length"] == str(LENGTH)
    assert full.retry_seconds

    listed = await client.processing.ListSessions(
        processing_pb2.ListSessionsRequest(), metadata=client.metadata
    )
    assert set(accepted) <= {session.session_id for session in listed.sessions}
    async with asyncio.timeout(120):
        for session_id in accepted:
            cancelled = await client.processing.CancelSession(
                processing_pb2.CancelSessionRequest(session_id=session_id),
                metadata=client.metadata,
            )
            assert cancelled.session.session_id == session_id
        for stream in (running, *waiting):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                async for _ in stream:
                    pass
            assert read(ended.value).reason == "CANCELLED_BY_CLIENT"


@pytest.mark.demonstration
async def test_the_history_outlives_the_server_and_leases_do_not(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    data = tmp_path / "kept"
    with start_server(data, *flags) as running:
        async with running.client() as client:
            held = [await lend(client, place, 64 * MIB) for place in (HOST, CPU)]
            await refusal_of(lend(client, CPU, TOO_MUCH))
            async with asyncio.timeout(30):
                while True:
                    first = await history(client)
                    with contextlib.suppress(KeyError):
                        if _peak(first["cpu:0"]) >= 64 * MIB:
                            break
                    await asyncio.sleep(0.2)
    with start_server(data, *flags) as running:
        async with running.client() as client:
            second = await history(client)
            listed = await client.memory.ListAllocations(
                memory_pb2.ListAllocationsRequest(), metadata=client.metadata
            )
            gone = [await refusal_of(free(client, each)) for each in held]

    for place, kept in first.items():
        told = {each.sample_time.seconds: each.used_bytes for each in second[place].samples}
        # The last second was still growing when it was asked for.
        for sample in list(kept.samples)[:-1]:
            assert told[sample.sample_time.seconds] == sample.used_bytes
        assert second[place].peak_bytes >= kept.peak_bytes
    assert _peak(second["cpu:0"]) >= 64 * MIB
    assert second["cpu:0"].out_of_memory_count == 1
    assert list(listed.allocations) == []
    assert [(one.reason, one.metadata.get("cause")) for one in gone] == [
        ("ALLOCATION_NOT_FOUND", None)
    ] * 2


def _peak(told: memory_history_pb2.MemoryHistory) -> int:
    """The most that allocations held."""
    wanted = memory_history_pb2.MEMORY_HOLDER_ALLOCATIONS
    return max((one.peak_bytes for one in told.holders if one.kind == wanted), default=0)


async def _first(
    stream: grpc.aio.UnaryStreamCall[
        inference_pb2.GenerateRequest, inference_pb2.GenerateResponse
    ],
    kind: str,
) -> event_pb2.SessionEvent:
    """Of the session that the stream is about, the next event of that kind."""
    async for response in stream:
        if response.event.WhichOneof("event") == kind:
            return response.event
    raise AssertionError(f"the stream ended without {kind}")


async def test_a_drained_server_finishes_what_runs_and_refuses_what_is_new(
    unlimited: RunningServer,
) -> None:
    """The last one: there is no server afterwards."""
    async with unlimited.client() as client:
        events: list[event_pb2.SessionEvent] = []
        call = client.generate(small_request(steps=10))
        await until_step(call, events)

        unlimited.process.send_signal(signal.SIGTERM)
        await until(lambda: '"draining"' in unlimited.log(), 60)
        refused = await refusal_of(client.draw(small_request()))
        async for response in call:
            events.append(response.event)

        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert events[-1].HasField("completed")
    code = await asyncio.to_thread(unlimited.process.wait, 30)
    assert code == 0
