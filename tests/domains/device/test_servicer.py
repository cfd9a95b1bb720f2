"""DeviceService through a real channel, with the real inventory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import pytest

from deviceops.v1 import common_pb2, device_pb2, device_pb2_grpc
from domains.device import convert
from domains.device.core import DeviceInventory
from domains.device.servicer import DeviceServicer
from domains.device.types import DeviceKind, DeviceState
from tests.domains.wire import channel_to, refusal
from tests.fakes.device import FakeProbe, FakeWorkers, card

Stub: TypeAlias = "device_pb2_grpc.DeviceServiceAsyncStub"


@pytest.fixture
def workers() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
async def stub(workers: FakeWorkers) -> AsyncIterator[Stub]:
    inventory = DeviceInventory(
        FakeProbe(card(0, hardware_id="GPU-1"), why="no such driver"), workers
    )
    servicer = DeviceServicer(inventory)  # type: ignore[abstract]
    add = device_pb2_grpc.add_DeviceServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield device_pb2_grpc.DeviceServiceStub(channel)


async def test_list_devices_tells_everything_found_and_looked_for(stub: Stub) -> None:
    answer = await stub.ListDevices(device_pb2.ListDevicesRequest())

    first, second = answer.devices
    assert (first.device_id, second.device_id) == ("cuda:0", "cpu:0")
    assert first.is_default
    assert answer.default_device_id == "cuda:0"
    assert first.state == device_pb2.DEVICE_STATE_READY
    assert first.hardware_id == "GPU-1"
    assert "gpu" in first.aliases
    assert not first.total_memory.HasField("value_bytes")
    assert first.total_memory.quality == common_pb2.FIGURE_QUALITY_UNKNOWN
    assert second.total_memory.value_bytes == 16 << 30
    assert second.total_memory.source == "a fake"
    assert {probe.explanation for probe in answer.probes} == {"no such driver"}
    assert len(answer.probes) == 4


async def test_list_devices_filters_by_kind(stub: Stub) -> None:
    request = device_pb2.ListDevicesRequest(kind=device_pb2.DEVICE_KIND_CPU, refresh=True)

    answer = await stub.ListDevices(request)

    assert [device.device_id for device in answer.devices] == ["cpu:0"]
    assert list(answer.probes) == []


async def test_an_unknown_kind_is_refused_by_name(stub: Stub) -> None:
    refused = await refusal(stub.ListDevices(device_pb2.ListDevicesRequest(kind=99)))  # type: ignore[arg-type]

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "ENUM_VALUE_UNKNOWN"
    assert refused.fields == ("kind",)


async def test_get_device_takes_aliases_and_tells_the_workers_state(
    stub: Stub, workers: FakeWorkers
) -> None:
    workers.set("cuda:0", DeviceState.RECOVERING, "its worker was lost")

    answer = await stub.GetDevice(device_pb2.GetDeviceRequest(device_id="GPU"))

    assert answer.device.device_id == "cuda:0"
    assert answer.device.state == device_pb2.DEVICE_STATE_RECOVERING
    assert answer.device.explanation == "its worker was lost"


async def test_get_device_without_an_id_is_the_default(stub: Stub) -> None:
    answer = await stub.GetDevice(device_pb2.GetDeviceRequest())

    assert answer.device.is_default


async def test_a_missing_device_is_not_found_with_the_probes_explanation(stub: Stub) -> None:
    refused = await refusal(stub.GetDevice(device_pb2.GetDeviceRequest(device_id="xpu:0")))

    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.reason == "DEVICE_NOT_FOUND"
    assert "no such driver" in refused.message


async def test_the_rest_is_not_built(stub: Stub) -> None:
    refused = await refusal(stub.GetDeviceStatus(device_pb2.GetDeviceStatusRequest()))

    assert refused.code is grpc.StatusCode.UNIMPLEMENTED
    assert refused.reason == "NOT_BUILT"


def test_enums_map_completely() -> None:
    kinds = {convert.KINDS.to_proto(kind): kind for kind in DeviceKind}
    states = {convert.STATES.to_proto(state): state for state in DeviceState}

    assert set(kinds) == set(device_pb2.DeviceKind.values()) - {0}
    assert set(states) == set(device_pb2.DeviceState.values()) - {0}
    assert all(convert.KINDS.optional_from_proto(n) is kind for n, kind in kinds.items())
    assert all(convert.STATES.optional_from_proto(n) is state for n, state in states.items())
    assert convert.KINDS.optional_from_proto(0) is None
