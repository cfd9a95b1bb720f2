"""DeviceService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import device_pb2, device_pb2_grpc
from domains.conversions import converted
from domains.device import convert
from domains.device.core import DeviceService
from domains.session.convert import SessionStreams, Starters

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class DeviceServicer(device_pb2_grpc.DeviceServiceServicer):
    """Devices: which there are, what they can do, how they are, and what to change."""

    def __init__(self, core: DeviceService, streams: SessionStreams) -> None:
        self._core = core
        self._streams = streams

    def register(self, starters: Starters) -> None:
        """Have it known how requests that start sessions become those."""
        core, know = self._core, starters.know
        know(
            device_pb2.OptimizeDeviceRequest,
            convert.optimization_from_proto,
            core.optimizations.optimize,
        )
        know(device_pb2.RestartWorkerRequest, convert.restart_from_proto, core.restarts.restart)

    async def ListDevices(
        self, request: device_pb2.ListDevicesRequest, context: Context
    ) -> device_pb2.ListDevicesResponse:
        kind = convert.KINDS.optional_from_proto(request.kind, field="kind")
        listing = await self._core.inventory.list(kind, refresh=request.refresh)
        return convert.listing_to_proto(listing, self._core.changes.revision())

    async def GetDevice(
        self, request: device_pb2.GetDeviceRequest, context: Context
    ) -> device_pb2.GetDeviceResponse:
        report = await self._core.inventory.get(request.device_id)
        return device_pb2.GetDeviceResponse(device=convert.device_to_proto(report))

    async def GetDeviceCapabilities(
        self, request: device_pb2.GetDeviceCapabilitiesRequest, context: Context
    ) -> device_pb2.GetDeviceCapabilitiesResponse:
        found = await self._core.self_tests.capabilities(
            request.device_id, refresh=request.refresh
        )
        return convert.capabilities_to_proto(found)

    async def SetDefaultDevice(
        self, request: device_pb2.SetDefaultDeviceRequest, context: Context
    ) -> device_pb2.SetDefaultDeviceResponse:
        report = await self._core.inventory.set_default(request.device_id)
        return device_pb2.SetDefaultDeviceResponse(device=convert.device_to_proto(report))

    async def GetDeviceMemory(
        self, request: device_pb2.GetDeviceMemoryRequest, context: Context
    ) -> device_pb2.GetDeviceMemoryResponse:
        memory = await self._core.monitor.memory(request.device_id)
        return device_pb2.GetDeviceMemoryResponse(memory=convert.memory_to_proto(memory))

    async def GetDeviceStatus(
        self, request: device_pb2.GetDeviceStatusRequest, context: Context
    ) -> device_pb2.GetDeviceStatusResponse:
        status = await self._core.monitor.status(request.device_id)
        return convert.status_to_proto(status)

    def WatchDevices(
        self, request: device_pb2.WatchDevicesRequest, context: Context
    ) -> AsyncIterator[device_pb2.WatchDevicesResponse]:
        told = self._core.changes.watch(request.device_id, from_revision=request.from_revision)
        return converted(told, convert.told_to_proto)

    def OptimizeDevice(
        self, request: device_pb2.OptimizeDeviceRequest, context: Context
    ) -> AsyncIterator[device_pb2.OptimizeDeviceResponse]:
        return self._streams.start(request, context, device_pb2.OptimizeDeviceResponse)

    def RestartWorker(
        self, request: device_pb2.RestartWorkerRequest, context: Context
    ) -> AsyncIterator[device_pb2.RestartWorkerResponse]:
        return self._streams.start(request, context, device_pb2.RestartWorkerResponse)
