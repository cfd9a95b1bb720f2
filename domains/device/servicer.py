"""DeviceService on the wire."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import device_pb2, device_pb2_grpc
from domains.device import convert
from domains.device.core import DeviceInventory

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class DeviceServicer(device_pb2_grpc.DeviceServiceServicer):
    """Which devices there are; the rest is answered by the generated base."""

    def __init__(self, inventory: DeviceInventory) -> None:
        self._inventory = inventory

    async def ListDevices(
        self, request: device_pb2.ListDevicesRequest, context: Context
    ) -> device_pb2.ListDevicesResponse:
        kind = convert.KINDS.optional_from_proto(request.kind, field="kind")
        listing = await self._inventory.list(kind, refresh=request.refresh)
        return convert.listing_to_proto(listing)

    async def GetDevice(
        self, request: device_pb2.GetDeviceRequest, context: Context
    ) -> device_pb2.GetDeviceResponse:
        report = await self._inventory.get(request.device_id)
        return device_pb2.GetDeviceResponse(device=convert.device_to_proto(report))
