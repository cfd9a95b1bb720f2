"""MemoryService through a real channel, over real segments and devices of this process."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any, TypeAlias

import grpc
import pytest

from deviceops.v1 import (
    common_pb2,
    memory_info_pb2,
    memory_pb2,
    memory_pb2_grpc,
    session_pb2,
    upload_pb2,
)
from domains.clients import Role
from domains.memory.convert.upkeep import REPORTS
from domains.memory.servicer import MemoryServicer
from domains.session.convert import Starters
from tests.callers import called
from tests.domains.memory.conftest import MIB, System
from tests.domains.sessions import streams_of
from tests.domains.wire import channel_to, refusal

Stub: TypeAlias = "memory_pb2_grpc.MemoryServiceAsyncStub"
HOST = memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory())
CARD = memory_info_pb2.MemoryPlace(device_id="gpu")
ANN = called("ann")


@pytest.fixture
async def stub(system: System) -> AsyncIterator[Stub]:
    starters = Starters()
    streams = streams_of(system.sessions, REPORTS, starters)
    servicer = MemoryServicer(system.service, streams)
    servicer.register(starters)
    add = memory_pb2_grpc.add_MemoryServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield memory_pb2_grpc.MemoryServiceStub(channel)


async def lend(
    stub: Stub, place: memory_info_pb2.MemoryPlace = HOST, size: int = MIB, **more: Any
) -> memory_pb2.Allocation:
    request = memory_pb2.CreateAllocationRequest(place=place, size_bytes=size, **more)
    return (await stub.CreateAllocation(request, metadata=ANN)).allocation


async def parts(
    allocation_id: str, data: bytes, *, begin: int = 0, upload_id: str = ""
) -> AsyncIterator[memory_pb2.WriteAllocationRequest]:
    """The messages of a write of `data`, from byte `begin` of it on."""
    upload = upload_pb2.UploadHeader(
        upload_id=upload_id or str(uuid.uuid4()), offset_bytes=begin, size_bytes=len(data)
    )
    header = memory_pb2.AllocationUpload(allocation_id=allocation_id, upload=upload)
    yield memory_pb2.WriteAllocationRequest(header=header)
    yield memory_pb2.WriteAllocationRequest(data=data[begin:])
    done = upload_pb2.UploadCompletion(sha256=hashlib.sha256(data).hexdigest())
    yield memory_pb2.WriteAllocationRequest(completion=done)


async def test_status_tells_main_memory_and_every_device(stub: Stub, system: System) -> None:
    status = (await stub.GetMemoryStatus(memory_pb2.GetMemoryStatusRequest())).status

    assert status.host.total.value_bytes == 64 << 30
    assert status.host.total.quality == common_pb2.FIGURE_QUALITY_MEASURED
    assert not status.host.HasField("container_limit")
    assert status.read_time.ToDatetime(UTC) == system.time.moment
    devices = {memory.device_id: memory for memory in status.devices}
    assert set(devices) == {"cuda:0", "cuda:1", "cpu:0"}
    assert devices["cpu:0"].free.value_bytes == status.host.available.value_bytes
    assert devices["cpu:0"].allocated.quality == common_pb2.FIGURE_QUALITY_UNKNOWN
    assert not devices["cpu:0"].allocated.HasField("value_bytes")
    assert devices["cpu:0"].allocated.source


async def test_a_missing_device_is_not_found_by_every_rpc(stub: Stub) -> None:
    missing = memory_info_pb2.MemoryPlace(device_id="mps:0")
    for call in (
        stub.GetMemoryStatus(memory_pb2.GetMemoryStatusRequest(device_id="mps:0")),
        stub.GetMemoryPressure(memory_pb2.GetMemoryPressureRequest(device_id="mps:0")),
        stub.WatchMemory(memory_pb2.WatchMemoryRequest(device_id="mps:0")).read(),
        stub.CreateAllocation(memory_pb2.CreateAllocationRequest(place=missing, size_bytes=1)),
        stub.ListAllocations(memory_pb2.ListAllocationsRequest(place=missing)),
    ):
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.NOT_FOUND
        assert refused.reason == "DEVICE_NOT_FOUND"


async def test_pressure_comes_with_its_thresholds(stub: Stub, system: System) -> None:
    system.meter.tell("cuda:0", 100, 4)

    told = await stub.GetMemoryPressure(memory_pb2.GetMemoryPressureRequest(device_id="gpu"))

    main, card = told.pressures
    assert main.place.HasField("host")
    assert main.level == memory_pb2.PRESSURE_LEVEL_NORMAL
    assert card.place.device_id == "cuda:0"
    assert card.level == memory_pb2.PRESSURE_LEVEL_CRITICAL
    assert card.used_share == pytest.approx(0.96)
    assert [round(t.enter_share, 2) for t in told.thresholds] == [0, 0.8, 0.9, 0.95]
    evict = memory_pb2.PRESSURE_REACTION_EVICT_CACHED
    unload = memory_pb2.PRESSURE_REACTION_UNLOAD_IDLE
    refuse = memory_pb2.PRESSURE_REACTION_REFUSE_ALLOCATIONS
    refuse_work = memory_pb2.PRESSURE_REACTION_REFUSE_WORK
    assert [list(threshold.reactions) for threshold in told.thresholds] == [
        [],
        [evict, unload],
        [evict, unload, refuse],
        [evict, unload, refuse, refuse_work],
    ]


async def test_watching_sends_pressure_then_figures(stub: Stub) -> None:
    request = memory_pb2.WatchMemoryRequest(device_id="cpu")
    request.interval.FromMilliseconds(100)
    call: Any = stub.WatchMemory(request)
    kinds = [(await call.read()).WhichOneof("content") for _ in range(4)]
    call.cancel()

    assert kinds == ["pressure", "pressure", "status", "status"]


async def test_a_watch_that_has_nothing_new_says_that_it_lives(
    stub: Stub, system: System
) -> None:
    system.service.watch.heartbeat_seconds = 0.01
    request = memory_pb2.WatchMemoryRequest(device_id="cpu", pressure_only=True)
    call: Any = stub.WatchMemory(request)
    answers = [await call.read() for _ in range(4)]
    call.cancel()

    kinds = [answer.WhichOneof("content") for answer in answers]
    assert kinds == ["pressure", "pressure", "heartbeat", "heartbeat"]
    assert answers[-1].heartbeat.event_time.ToDatetime(UTC) == system.time.moment


async def test_watching_has_limits(stub: Stub) -> None:
    request = memory_pb2.WatchMemoryRequest()
    request.interval.FromMilliseconds(1)

    refused = await refusal(stub.WatchMemory(request).read())

    assert (refused.reason, refused.fields) == ("FIELD_OUT_OF_RANGE", ("interval",))


async def test_an_allocation_from_birth_to_end(stub: Stub, system: System) -> None:
    made = await lend(stub, CARD, label="latents")
    assert (made.place.device_id, made.label, made.size_bytes) == ("cuda:0", "latents", MIB)
    assert made.create_time.ToDatetime(UTC) == system.time.moment
    assert made.lease_expire_time.seconds - made.create_time.seconds == 60

    request = memory_pb2.RenewLeasesRequest(allocation_ids=[made.allocation_id])
    request.lease.FromSeconds(100)
    (renewed,) = (await stub.RenewLeases(request, metadata=ANN)).allocations
    assert renewed.lease_expire_time.seconds - made.create_time.seconds == 100

    listed = await stub.ListAllocations(memory_pb2.ListAllocationsRequest(), metadata=ANN)
    assert list(listed.allocations) == [renewed]
    by_device = {one.place.device_id: one for one in listed.reconciliations}
    assert by_device["cuda:0"].ledger_bytes == MIB
    assert by_device["cuda:0"].allocator.value_bytes == 0  # the fake does not count

    ended = memory_pb2.DeleteAllocationRequest(allocation_id=made.allocation_id)
    assert (await stub.DeleteAllocation(ended, metadata=ANN)).freed_bytes == MIB
    refused = await refusal(stub.DeleteAllocation(ended, metadata=ANN))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.NOT_FOUND,
        "ALLOCATION_NOT_FOUND",
    )


async def test_allocations_say_whose_they_are(stub: Stub) -> None:
    mine = await lend(stub)
    root = called("root", Role.ADMIN)
    for owner, found in (("", [mine]), ("ann", [mine]), ("bob", [])):
        request = memory_pb2.ListAllocationsRequest(owner=owner)
        listed = await stub.ListAllocations(request, metadata=root)
        assert list(listed.allocations) == found

    assert mine.owner == "ann"


async def test_clients_are_told_apart_by_their_name(stub: Stub) -> None:
    made = await lend(stub)
    request = memory_pb2.DeleteAllocationRequest(allocation_id=made.allocation_id)

    for metadata in (called("eve", Role.READ), called("bob")):
        refused = await refusal(stub.DeleteAllocation(request, metadata=metadata))
        assert refused.reason == "ALLOCATION_NOT_FOUND"
        listed = await stub.ListAllocations(
            memory_pb2.ListAllocationsRequest(), metadata=metadata
        )
        assert list(listed.allocations) == []


async def test_pages_of_allocations_end_by_bytes_too(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {(await lend(stub)).allocation_id for _ in range(3)}
    monkeypatch.setattr("domains.paging.MAX_PAGE_BYTES", 1)
    request = memory_pb2.ListAllocationsRequest()

    seen: list[str] = []
    while len(seen) < 1 or request.page_token:
        page = await stub.ListAllocations(request, metadata=ANN)
        (one,) = page.allocations
        seen.append(one.allocation_id)
        request.page_token = page.next_page_token

    assert len(seen) == len(made)
    assert set(seen) == made


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (
            memory_pb2.CreateAllocationRequest(size_bytes=1),
            "INVALID_ARGUMENT",
            "REQUIRED_FIELD_MISSING",
        ),
        (
            memory_pb2.CreateAllocationRequest(place=HOST),
            "INVALID_ARGUMENT",
            "FIELD_OUT_OF_RANGE",
        ),
        (
            memory_pb2.CreateAllocationRequest(
                place=memory_info_pb2.MemoryPlace(device_id=""), size_bytes=1
            ),
            "INVALID_ARGUMENT",
            "NAME_INVALID",
        ),
        (
            memory_pb2.CreateAllocationRequest(place=HOST, size_bytes=1 << 40),
            "RESOURCE_EXHAUSTED",
            "HOST_OUT_OF_MEMORY",
        ),
        (
            memory_pb2.CreateAllocationRequest(place=CARD, size_bytes=1 << 40),
            "RESOURCE_EXHAUSTED",
            "DEVICE_OUT_OF_MEMORY",
        ),
    ],
)
async def test_allocations_are_refused_with_a_reason(
    stub: Stub, request_: memory_pb2.CreateAllocationRequest, code: str, reason: str
) -> None:
    refused = await refusal(stub.CreateAllocation(request_))

    assert (refused.code.name, refused.reason) == (code, reason)


async def test_bytes_go_in_move_and_come_out(stub: Stub) -> None:
    data = bytes(range(256)) * 100
    one, other = await lend(stub, HOST, len(data)), await lend(stub, CARD, len(data))

    wrote = await stub.WriteAllocation(parts(one.allocation_id, data), metadata=ANN)
    copying = memory_pb2.CopyAllocationRequest(
        source_allocation_id=one.allocation_id, target_allocation_id=other.allocation_id
    )
    copied = [answer.event async for answer in stub.CopyAllocation(copying, metadata=ANN)]
    moving = memory_pb2.TransferAllocationRequest(allocation_id=other.allocation_id, place=HOST)
    moved = [answer.event async for answer in stub.TransferAllocation(moving, metadata=ANN)]
    reading = memory_pb2.ReadAllocationRequest(
        allocation_id=other.allocation_id, offset_bytes=10, length_bytes=1000
    )
    answers = [answer async for answer in stub.ReadAllocation(reading, metadata=ANN)]

    assert wrote.written_bytes == len(data)
    for events in (copied, moved):
        assert events[0].accepted.kind == session_pb2.SESSION_KIND_MEMORY_TASK
        assert events[-1].HasField("completed")
    assert answers[0].offset_bytes == 10
    assert b"".join(answer.data for answer in answers) == data[10:1010]
    assert answers[-1].sha256 == hashlib.sha256(data[10:1010]).hexdigest()


async def test_a_write_without_an_end_is_incomplete(stub: Stub) -> None:
    made = await lend(stub)

    async def cut() -> AsyncIterator[memory_pb2.WriteAllocationRequest]:
        async for part in parts(made.allocation_id, b"abc"):
            if not part.HasField("completion"):
                yield part

    refused = await refusal(stub.WriteAllocation(cut(), metadata=ANN))

    assert refused.reason == "UPLOAD_INCOMPLETE"


async def test_a_write_that_broke_off_goes_on(stub: Stub, system: System) -> None:
    data, upload_id = b"abcdef" * 1000, str(uuid.uuid4())
    made = await lend(stub, CARD, len(data))

    async def cut() -> AsyncIterator[memory_pb2.WriteAllocationRequest]:
        messages = parts(made.allocation_id, data, upload_id=upload_id)
        yield await anext(messages)
        yield memory_pb2.WriteAllocationRequest(data=data[:100])

    refused = await refusal(stub.WriteAllocation(cut(), metadata=ANN))
    received = system.uploads.get("ann", upload_id).received_bytes
    rest = parts(made.allocation_id, data, begin=received, upload_id=upload_id)
    wrote = await stub.WriteAllocation(rest, metadata=ANN)
    reading = memory_pb2.ReadAllocationRequest(allocation_id=made.allocation_id)
    answers = [answer async for answer in stub.ReadAllocation(reading, metadata=ANN)]

    assert (refused.reason, received) == ("UPLOAD_INCOMPLETE", 100)
    assert wrote.written_bytes == len(data)
    assert b"".join(answer.data for answer in answers) == data
