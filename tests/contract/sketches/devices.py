"""Which devices can be used, and why the others cannot."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.device_info_pb2 import DEVICE_STATE_READY, DeviceInfo
from deviceops.v1.device_pb2 import ListDevicesRequest
from deviceops.v1.device_pb2_grpc import DeviceServiceStub


async def usable_devices(channel: grpc.aio.Channel) -> tuple[list[DeviceInfo], dict[str, str]]:
    """The ready devices, the default one first, and an explanation for each other one."""
    response = await DeviceServiceStub(channel).ListDevices(ListDevicesRequest())
    ready = [d for d in response.devices if d.state == DEVICE_STATE_READY]
    others = {d.device_id: d.explanation for d in response.devices if d not in ready}
    return ready, others
