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


@dataclass(frozen=True)
class Segment:
    """Host memory that processes of this server share, by name.

    `name` is what another process opens: `/proc/<pid>/fd/<n>` of a memfd on Linux, the
    name of a `multiprocessing.shared_memory` block elsewhere.
    """

    name: str
    size_bytes: int


@dataclass(frozen=True)
class SegmentRegion:
    """Shared host memory from byte `offset` on."""

    segment: Segment
    offset: int = 0


@dataclass(frozen=True)
class BufferRegion:
    """A device buffer from byte `offset` on."""

    buffer_id: str
    offset: int = 0


Region = SegmentRegion | BufferRegion


@dataclass(frozen=True)
class Move:
    """Copy `length` bytes between regions a device's worker reaches; the source stays.

    At least one region is a buffer of that device. With `hash` the SHA-256 of the bytes
    is computed as they are read.
    """

    source: Region
    target: Region
    length: int
    hash: bool = False


@dataclass(frozen=True)
class Moved:
    """A move is over: bytes copied, and their SHA-256 in lower-case hexadecimal if asked."""

    done: int
    sha256: str | None = None
