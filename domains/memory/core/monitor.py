"""Reading memory and saying of every figure where it is from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from domains.device.core import DeviceInventory
from domains.device.core.figures import device_memory
from domains.device.types import Device, DeviceMemory
from domains.memory.ports import DeviceMeter, HostMemoryReader
from domains.memory.types import Extent, HostMemory, MemoryStatus, Place

MAIN_MEMORY = "main memory"


class MemoryMonitor:
    """Knows what memory there is.

    Args:
        host: Reads main memory.
        devices: Knows the devices.
        meter: Has the device memory that the workers last sent.
        clock: The wall clock, timezone-aware.
    """

    def __init__(
        self,
        host: HostMemoryReader,
        devices: DeviceInventory,
        meter: DeviceMeter,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._host = host
        self._devices = devices
        self._meter = meter
        self._clock = clock

    async def status(self, device: str = "") -> MemoryStatus:
        """Main memory and the memory of `device`, an id or alias; empty means every device.

        Raises:
            DeviceNotFound: There is no such device.
        """
        if device:
            wanted = [(await self._devices.get(device)).device]
        else:
            wanted = [report.device for report in (await self._devices.list()).devices]
        return await self._read(wanted)

    async def known(self) -> MemoryStatus:
        """As `status`, of the devices known now: discovery is not waited for."""
        return await self._read(self._devices.devices)

    async def extent(self, place: Place) -> Extent:
        """How large the memory behind a place is, and how much could be taken there now.

        For a device what its worker's allocator keeps unused counts as free as well. Of one
        that is not known, or not yet, neither is.
        """
        device = self._device(place)
        if self.pool(place) == MAIN_MEMORY:
            host = await asyncio.to_thread(self._host.read)
            return Extent(host.total.value, host.available.value)
        if device is None:
            return Extent(None, None)
        figures = self._meter.figures(device.device_id)
        if figures is None:
            return Extent(device.total_memory.value, None)
        free, total = figures.free.value, figures.total.value
        if free is not None and figures.reserved.value is not None:
            free += max(0, figures.reserved.value - (figures.allocated.value or 0))
        return Extent(total, free)

    def pool(self, place: Place) -> str:
        """The memory that a place's bytes come from: "main memory" or a device's id."""
        device = self._device(place)
        if place.host or (device is not None and device.traits.in_main_memory):
            return MAIN_MEMORY
        return place.device_id

    def _device(self, place: Place) -> Device | None:
        found = (d for d in self._devices.devices if d.device_id == place.device_id)
        return next(found, None)

    async def _read(self, devices: tuple[Device, ...] | list[Device]) -> MemoryStatus:
        host = await asyncio.to_thread(self._host.read)
        return MemoryStatus(
            host, tuple(self._memory(device, host) for device in devices), self._clock()
        )

    def _memory(self, device: Device, host: HostMemory) -> DeviceMemory:
        return device_memory(device, self._meter.figures(device.device_id), host)
