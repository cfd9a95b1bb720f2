"""MemoryService through a real channel, over this machine's real memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TypeAlias

import grpc
import psutil
import pytest

from deviceops.v1 import common_pb2, memory_pb2, memory_pb2_grpc
from domains.device.core import DeviceInventory
from domains.memory.backends.host import HostMemoryMeter
from domains.memory.core import MemoryMonitor
from domains.memory.servicer import MemoryServicer
from tests.domains.wire import channel_to, refusal
from tests.fakes.device import FakeProbe, FakeWorkers, card

Stub: TypeAlias = "memory_pb2_grpc.MemoryServiceAsyncStub"


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    monitor = MemoryMonitor(
        HostMemoryMeter(limits=list),
        DeviceInventory(FakeProbe(card(0)), FakeWorkers()),
        clock=lambda: datetime.now(UTC),
    )
    servicer = MemoryServicer(monitor)  # type: ignore[abstract]
    add = memory_pb2_grpc.add_MemoryServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield memory_pb2_grpc.MemoryServiceStub(channel)


async def test_status_tells_main_memory_and_every_device(stub: Stub) -> None:
    before = datetime.now(UTC)

    status = (await stub.GetMemoryStatus(memory_pb2.GetMemoryStatusRequest())).status

    assert status.host.total.value_bytes == psutil.virtual_memory().total
    assert status.host.total.quality == common_pb2.FIGURE_QUALITY_MEASURED
    assert not status.host.HasField("container_limit")
    assert before <= status.read_time.ToDatetime(UTC) <= datetime.now(UTC)
    card_memory, main_memory = status.devices
    assert main_memory.free.value_bytes == status.host.available.value_bytes
    assert card_memory.free.quality == common_pb2.FIGURE_QUALITY_UNKNOWN
    assert not card_memory.free.HasField("value_bytes")
    assert card_memory.free.source


async def test_a_missing_device_is_not_found(stub: Stub) -> None:
    request = memory_pb2.GetMemoryStatusRequest(device_id="mps:0")

    refused = await refusal(stub.GetMemoryStatus(request))

    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.reason == "DEVICE_NOT_FOUND"


async def test_the_rest_is_not_built(stub: Stub) -> None:
    refused = await refusal(stub.GetMemoryPressure(memory_pb2.GetMemoryPressureRequest()))

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_BUILT")
