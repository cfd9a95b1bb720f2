"""Memory values: figures of main memory and of devices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domains.device.types import ByteFigure


@dataclass(frozen=True)
class HostMemory:
    """Main memory now, as far as this server may use it.

    `available` is what can be had without swapping; `container_limit` is None where
    nothing limits this server below the machine.
    """

    total: ByteFigure
    available: ByteFigure
    used_by_server: ByteFigure
    swap_total: ByteFigure
    swap_used: ByteFigure
    container_limit: ByteFigure | None = None


@dataclass(frozen=True)
class DeviceMemory:
    """A device's memory now.

    `free` is free for anybody; `allocated` and `reserved` are our worker's tensors and
    what its allocator holds with them; `used_by_others` is everybody else's.
    """

    device_id: str
    total: ByteFigure
    free: ByteFigure
    allocated: ByteFigure
    reserved: ByteFigure
    used_by_others: ByteFigure
    peak_allocated: ByteFigure


@dataclass(frozen=True)
class MemoryStatus:
    """Main memory and device memory, read at one moment."""

    host: HostMemory
    devices: tuple[DeviceMemory, ...]
    read_time: datetime
