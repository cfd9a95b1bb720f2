"""Reading memory and saying of every figure where it is from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from domains.device.core import DeviceInventory
from domains.device.types import ByteFigure, Device, DeviceKind, FigureQuality
from domains.memory.ports import HostMemoryReader
from domains.memory.types import DeviceMemory, HostMemory, MemoryStatus

_UNCOUNTED = "torch does not count tensors in main memory"
_UNREPORTED = "workers do not report their device's memory in this version"


class MemoryMonitor:
    """Tells what memory there is.

    Args:
        host: Reads main memory.
        devices: Knows the devices.
        clock: The wall clock, timezone-aware.
    """

    def __init__(
        self, host: HostMemoryReader, devices: DeviceInventory, *, clock: Callable[[], datetime]
    ) -> None:
        self._host = host
        self._devices = devices
        self._clock = clock

    async def status(self, device: str = "") -> MemoryStatus:
        """Main memory and the memory of `device`, an id or alias; empty means every device.

        Raises:
            DeviceNotFound: There is no such device.
        """
        if device:
            asked = [(await self._devices.get(device)).device]
        else:
            asked = [report.device for report in (await self._devices.list()).devices]
        host = await asyncio.to_thread(self._host.read)
        return MemoryStatus(host, tuple(_memory(found, host) for found in asked), self._clock())


def _memory(device: Device, host: HostMemory) -> DeviceMemory:
    if device.kind is DeviceKind.CPU:
        return DeviceMemory(
            device_id=device.device_id,
            total=host.total,
            free=host.available,
            allocated=ByteFigure.unknown(_UNCOUNTED),
            reserved=ByteFigure.unknown(_UNCOUNTED),
            used_by_others=_others(host),
            peak_allocated=ByteFigure.unknown(_UNCOUNTED),
        )
    unreported = ByteFigure.unknown("the device is lost" if device.lost else _UNREPORTED)
    return DeviceMemory(
        device_id=device.device_id,
        total=unreported if device.lost else device.total_memory,
        free=unreported,
        allocated=unreported,
        reserved=unreported,
        used_by_others=unreported,
        peak_allocated=unreported,
    )


def _others(host: HostMemory) -> ByteFigure:
    """What neither is available nor is this server's.

    Pages that processes share count for each of them, so the difference can be negative.
    """
    parts = (host.total.value, host.available.value, host.used_by_server.value)
    if None in parts:
        return ByteFigure.unknown("a figure it is computed from is unknown")
    total, available, ours = (part or 0 for part in parts)
    return ByteFigure(
        max(0, total - available - ours),
        FigureQuality.ESTIMATED,
        "total - available - used_by_server",
    )
