"""Memory over a real server and its real worker: bytes, leases, their ends, tight places."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from deviceops.v1 import (
    artifact_pb2,
    device_pb2,
    event_pb2,
    memory_info_pb2,
    memory_pb2,
    processing_pb2,
    session_pb2,
    upload_pb2,
)
from tests.e2e.errors import Refusal, read, refusal_of
from tests.e2e.memory_calls import CPU, HOST, MIB, free, lend
from tests.e2e.test_faults import until, until_step, worker_of
from tests.running import Client, RunningServer, alive, small_request, start_server

LARGE = 256 * MIB
BLOCK = hashlib.sha512(b"one").digest() * (MIB // 64)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own: some of these tests kill its worker or look at its memory."""
    folder = tmp_path_factory.mktemp("memory")
    with start_server(folder, "--log-level", "warning") as running:
        asyncio.run(_ready(running))
        yield running


async def _ready(server: RunningServer) -> None:
    async with server.client() as client:
        await lend(client, CPU, 1)  # waits for the worker


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    """A client with a name of its own; what it held is given back."""
    name = f"test-{time.monotonic_ns()}"
    async with server.client(await server.named(name)) as made:
        yield made
        listed = await made.memory.ListAllocations(
            memory_pb2.ListAllocationsRequest(page_size=1000), metadata=made.metadata
        )
        for one in listed.allocations:
            await free(made, one.allocation_id)
    server.revoke(name)


async def write(client: Client, allocation_id: str, size: int) -> str:
    """Fill an allocation; the hash of what was sent."""
    sha256 = hashlib.sha256()

    async def parts() -> AsyncIterator[memory_pb2.WriteAllocationRequest]:
        upload = upload_pb2.UploadHeader(upload_id=str(uuid.uuid4()), size_bytes=size)
        header = memory_pb2.AllocationUpload(allocation_id=allocation_id, upload=upload)
        yield memory_pb2.WriteAllocationRequest(header=header)
        for number in range(size // MIB):
            data = number.to_bytes(8, "big") + BLOCK[8:]  # no two alike
            sha256.update(data)
            yield memory_pb2.WriteAllocationRequest(data=data)
        done = upload_pb2.UploadCompletion(sha256=sha256.hexdigest())
        yield memory_pb2.WriteAllocationRequest(completion=done)

    done = await client.memory.WriteAllocation(parts(), metadata=client.metadata)
    assert done.written_bytes == size
    return sha256.hexdigest()


async def hash_of(client: Client, allocation_id: str) -> str:
    """The hash of what is read, once it is the one the server announces."""
    sha256, announced = hashlib.sha256(), ""
    request = memory_pb2.ReadAllocationRequest(allocation_id=allocation_id)
    async for answer in client.memory.ReadAllocation(request, metadata=client.metadata):
        sha256.update(answer.data)
        announced = answer.sha256
    assert announced == sha256.hexdigest()
    return announced


def copy(client: Client, source: str, target: str, **more: Any) -> Any:
    request = memory_pb2.CopyAllocationRequest(
        source_allocation_id=source, target_allocation_id=target, **more
    )
    return client.memory.CopyAllocation(request, metadata=client.metadata)


def transfer(client: Client, allocation_id: str, place: memory_info_pb2.MemoryPlace) -> Any:
    request = memory_pb2.TransferAllocationRequest(allocation_id=allocation_id, place=place)
    return client.memory.TransferAllocation(request, metadata=client.metadata)


async def events_of(call: Any) -> list[event_pb2.SessionEvent]:
    return [answer.event async for answer in call]


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await events_of(call)
    return read(failed.value)


async def processes(server: RunningServer) -> list[psutil.Process]:
    front = psutil.Process(server.process.pid)
    return [front, *front.children(recursive=True)]


async def test_bytes_survive_the_way_there_and_back(client: Client) -> None:
    begin, device = await lend(client, HOST, LARGE), await lend(client, CPU, LARGE)
    end = await lend(client, HOST, LARGE)
    sent = await write(client, begin, LARGE)

    there = await events_of(copy(client, begin, device))
    back = await events_of(copy(client, device, end))

    assert await hash_of(client, end) == sent
    for events in (there, back):
        assert events[-1].HasField("completed")
        phases = [e.phase_started.phase for e in events if e.HasField("phase_started")]
        assert phases == [session_pb2.PHASE_COPYING, session_pb2.PHASE_VERIFYING]
        progress = [e.transfer_progress for e in events if e.HasField("transfer_progress")]
        assert progress[-1].done_bytes == progress[-1].total_bytes == 2 * LARGE
    listed = await client.memory.ListAllocations(
        memory_pb2.ListAllocationsRequest(), metadata=client.metadata
    )
    assert len(listed.allocations) == 3


async def test_device_memory_takes_and_gives_bytes(client: Client) -> None:
    device = await lend(client, CPU, 32 * MIB)

    sent = await write(client, device, 32 * MIB)

    assert await hash_of(client, device) == sent


async def test_a_write_that_broke_off_is_asked_about_and_goes_on(client: Client) -> None:
    """The stream breaks in the middle; what is here is told, and only the rest is sent."""
    data = BLOCK * 32
    device = await lend(client, CPU, len(data))
    upload_id, stalled = str(uuid.uuid4()), asyncio.Event()

    async def parts(begin: int, end: int) -> AsyncIterator[memory_pb2.WriteAllocationRequest]:
        upload = upload_pb2.UploadHeader(
            upload_id=upload_id, offset_bytes=begin, size_bytes=len(data)
        )
        header = memory_pb2.AllocationUpload(allocation_id=device, upload=upload)
        yield memory_pb2.WriteAllocationRequest(header=header)
        for start in range(begin, end, MIB):
            yield memory_pb2.WriteAllocationRequest(data=data[start : start + MIB])
        if end < len(data):
            stalled.set()
            await asyncio.Event().wait()
        done = upload_pb2.UploadCompletion(sha256=hashlib.sha256(data).hexdigest())
        yield memory_pb2.WriteAllocationRequest(completion=done)

    broken = client.memory.WriteAllocation(parts(0, 9 * MIB), metadata=client.metadata)
    await stalled.wait()
    asked = artifact_pb2.GetUploadRequest(upload_id=upload_id)
    async with asyncio.timeout(30):
        while True:  # the last messages may still be on their way
            told = await client.artifact.GetUpload(asked, metadata=client.metadata)
            if told.upload.received_bytes == 9 * MIB:
                break
    broken.cancel()

    rest = parts(told.upload.received_bytes, len(data))
    wrote = await client.memory.WriteAllocation(rest, metadata=client.metadata)
    gone = await refusal_of(client.artifact.GetUpload(asked, metadata=client.metadata))

    assert told.upload.size_bytes == wrote.written_bytes == len(data)
    assert await hash_of(client, device) == hashlib.sha256(data).hexdigest()
    assert gone.reason == "UPLOAD_NOT_FOUND"


async def test_a_copy_is_cancelled_in_the_middle(client: Client) -> None:
    begin, device = await lend(client, HOST, LARGE), await lend(client, CPU, LARGE)
    call = copy(client, begin, device)
    async for answer in call:
        if answer.event.HasField("phase_started"):
            break
    call.cancel()

    async with asyncio.timeout(60):
        while True:  # the session ends by itself; until then it holds both
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert await free(client, begin) == LARGE
                break
            await asyncio.sleep(0.01)
    ended = await client.processing.GetSession(
        processing_pb2.GetSessionRequest(session_id=answer.event.session_id),
        metadata=client.metadata,
    )
    assert ended.session.state == session_pb2.SESSION_STATE_CANCELLED
    assert await free(client, device) == LARGE


async def test_a_transfer_keeps_the_id_and_frees_the_old_place(client: Client) -> None:
    moved = await lend(client, HOST, 64 * MIB)
    sent = await write(client, moved, 64 * MIB)

    events = await events_of(transfer(client, moved, CPU))
    listed = await client.memory.ListAllocations(
        memory_pb2.ListAllocationsRequest(), metadata=client.metadata
    )

    assert events[-1].HasField("completed")
    assert [(a.allocation_id, a.place.device_id) for a in listed.allocations] == [
        (moved, "cpu:0")
    ]
    assert await hash_of(client, moved) == sent


async def test_a_lease_that_nobody_renews_is_freed(client: Client) -> None:
    request = memory_pb2.CreateAllocationRequest(place=CPU, size_bytes=MIB)
    request.lease.FromSeconds(1)
    made = await client.memory.CreateAllocation(request, metadata=client.metadata)
    await asyncio.sleep(2.1)

    gone = await refusal_of(free(client, made.allocation.allocation_id))

    assert (gone.reason, gone.metadata["cause"]) == ("ALLOCATION_NOT_FOUND", "expired")


async def test_too_much_is_refused_and_the_next_smaller_works(client: Client) -> None:
    for place in (HOST, CPU):
        much = await refusal_of(lend(client, place, 1 << 40))
        assert much.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert much.reason == "CLIENT_QUOTA_EXCEEDED"
        assert int(much.metadata["quota_bytes"]) > 0
        assert await free(client, await lend(client, place, MIB)) == MIB


@pytest.mark.demonstration
async def test_two_thousand_abandoned_leases_leave_nothing(server: RunningServer) -> None:
    """Opened by clients that vanish: memory, segments and handles return to where they were."""
    async with server.client() as warm:
        for place in (HOST, CPU):
            for _ in range(20):
                await free(warm, await lend(warm, place, 4096))
    before = [(p, p.memory_info().rss, p.num_fds()) for p in await processes(server)]

    token = await server.named("vanishing")
    async with server.client(token) as vanishing:

        async def open_some(place: memory_info_pb2.MemoryPlace) -> None:
            for _ in range(125):
                request = memory_pb2.CreateAllocationRequest(place=place, size_bytes=16_384)
                request.lease.FromSeconds(3)
                await vanishing.memory.CreateAllocation(request, metadata=vanishing.metadata)

        await asyncio.gather(*(open_some(place) for place in (HOST, CPU) * 8))

    async with server.client(token) as looking:
        for _ in range(100):
            listed = await looking.memory.ListAllocations(
                memory_pb2.ListAllocationsRequest(), metadata=looking.metadata
            )
            told = {one.place.device_id: one for one in listed.reconciliations}
            # The other tests' clients may hold a byte.
            if not listed.allocations and told["cpu:0"].allocator.value_bytes <= 4096:
                break
            await asyncio.sleep(0.1)
    assert list(listed.allocations) == []
    assert told[""].allocator.value_bytes <= told[""].ledger_bytes + 4096
    assert told["cpu:0"].allocator.value_bytes <= 4096
    for process, resident, handles in before:
        assert process.memory_info().rss - resident < 24 * MIB
        assert process.num_fds() - handles <= 4


async def test_status_and_pressure_tell_real_figures(client: Client) -> None:
    before = await client.memory.GetMemoryStatus(
        memory_pb2.GetMemoryStatusRequest(), metadata=client.metadata
    )
    pressure = await client.memory.GetMemoryPressure(
        memory_pb2.GetMemoryPressureRequest(device_id="cpu"), metadata=client.metadata
    )
    watching = client.memory.WatchMemory(
        memory_pb2.WatchMemoryRequest(pressure_only=True), metadata=client.metadata
    )
    first: Any = await watching.read()
    watching.cancel()

    host = before.status.host
    assert 0 < host.available.value_bytes <= host.total.value_bytes
    assert host.used_by_server.value_bytes > 50 * MIB
    assert first.pressure.place.HasField("host")
    share = 1 - host.available.value_bytes / host.total.value_bytes
    assert [p.used_share for p in pressure.pressures] == pytest.approx([share] * 2, abs=0.1)
    assert [p.place.device_id for p in pressure.pressures] == ["", "cpu:0"]


@pytest.mark.demonstration
async def test_a_killed_worker_takes_its_allocations_and_the_next_lends_again(
    client: Client, server: RunningServer
) -> None:
    device, main = await lend(client, CPU, MIB), await lend(client, HOST, MIB)
    status = await client.device.GetDeviceStatus(
        device_pb2.GetDeviceStatusRequest(device_id="cpu:0"), metadata=client.metadata
    )
    os.kill(status.worker.process_id, signal.SIGKILL)
    for _ in range(200):
        listed = await client.memory.ListAllocations(
            memory_pb2.ListAllocationsRequest(), metadata=client.metadata
        )
        if len(listed.allocations) == 1:
            break
        await asyncio.sleep(0.02)

    lost = await refusal_of(free(client, device))

    assert (lost.reason, lost.metadata["cause"]) == ("ALLOCATION_NOT_FOUND", "worker_lost")
    assert [one.allocation_id for one in listed.allocations] == [main]
    for _ in range(600):  # a new worker comes by itself
        with contextlib.suppress(grpc.aio.AioRpcError):
            again = await lend(client, CPU, MIB)
            break
        await asyncio.sleep(0.1)
    assert (await events_of(copy(client, main, again)))[-1].HasField("completed")


async def test_pressure_refuses_leases_and_work_and_passes(tmp_path: Path) -> None:
    """Thresholds below what any machine uses stand in for a machine without memory."""
    config = tmp_path / "config.toml"
    config.write_text(
        "pressure_elevated = 0.000001\npressure_high = 0.000002\npressure_critical = 0.000003\n"
        "pressure_hysteresis = 0\n",
        "utf-8",
    )
    with start_server(tmp_path / "data", "--config", str(config)) as tight:
        async with tight.client() as client:
            pressure = await client.memory.GetMemoryPressure(
                memory_pb2.GetMemoryPressureRequest(device_id="cpu"), metadata=client.metadata
            )
            lease = await refusal_of(lend(client, HOST, 1))
            with pytest.raises(grpc.aio.AioRpcError) as work:
                await client.draw(small_request(steps=1))

    assert pressure.pressures[0].level == memory_pb2.PRESSURE_LEVEL_CRITICAL
    assert (lease.reason, lease.metadata["pressure"]) == ("HOST_OUT_OF_MEMORY", "critical")
    told = read(work.value)
    assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told.retry_seconds


async def test_workers_do_not_outlive_a_killed_front(server: RunningServer) -> None:
    """The last one: there is no server afterwards."""
    async with server.client() as client:
        call = client.generate(small_request(steps=150))
        await until_step(call, [])
        worker = worker_of(server.process.pid)

        server.process.kill()
        server.process.wait()

        await until(lambda: not alive(worker), 60)
