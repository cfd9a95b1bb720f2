"""Memory values: figures, pressure, leases, and the regions that bytes move between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from domains.device.types import ByteFigure, DeviceMemory, LoadedComponent
from domains.session.types import SessionOptions


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

    `huge_pages`: all of it but the rest lies in huge pages, so that mapping it costs next
    to nothing.
    """

    name: str
    size_bytes: int
    huge_pages: bool = False


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
class Compare:
    """Compare `length` bytes of two regions that a device's worker reaches.

    At least one region is a buffer of that device.
    """

    first: Region
    second: Region
    length: int


@dataclass(frozen=True)
class Moved:
    """A move is over: bytes copied, and their SHA-256 in lower-case hexadecimal if asked."""

    done: int
    sha256: str | None = None


@dataclass(frozen=True)
class Place:
    """Where bytes can lie: a device's memory, or main memory when `device_id` is empty.

    `pinned` main memory is page-locked for faster copies to and from a device.
    """

    device_id: str = ""
    pinned: bool = False

    @property
    def host(self) -> bool:
        """Whether it is main memory, pinned or not."""
        return not self.device_id

    def __str__(self) -> str:
        return self.device_id or ("pinned main memory" if self.pinned else "main memory")


@dataclass(frozen=True)
class Extent:
    """Bytes of a memory in all and free; None where nobody tells."""

    total: int | None
    free: int | None


class PressureLevel(Enum):
    """How tight memory is; the values sort."""

    NORMAL = 0
    ELEVATED = 1
    HIGH = 2
    CRITICAL = 3


@dataclass(frozen=True)
class Threshold:
    """A level begins at a used share of `enter` and ends below `leave` (both 0 to 1).

    `reactions` are what gives way, in order, one sentence each.
    """

    level: PressureLevel
    enter: float
    leave: float
    reactions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pressure:
    """How tight memory is in one place, and since when."""

    place: Place
    level: PressureLevel
    used_share: float
    since_time: datetime


@dataclass(frozen=True)
class Allocation:
    """Memory lent to a client until `lease_expire_time`, unless renewed."""

    allocation_id: str
    client: str
    label: str
    place: Place
    size_bytes: int
    create_time: datetime
    lease_expire_time: datetime


@dataclass(frozen=True)
class AllocationRequest:
    """What a client asks `Allocate` for; `lease_seconds` from now on.

    `place` None is a request that names none.
    """

    place: Place | None
    size_bytes: int
    lease_seconds: float = 60.0
    label: str = ""
    zeroed: bool = False
    request_id: str = ""


@dataclass(frozen=True)
class Reconciliation:
    """What the ledger says of a place, and what its allocator reports for the leases."""

    place: Place
    ledger_bytes: int
    allocator: ByteFigure


@dataclass(frozen=True)
class CopyRequest:
    """Copy bytes of one allocation into another; a `length` of 0 is to the source's end."""

    source_id: str
    target_id: str
    source_offset: int = 0
    target_offset: int = 0
    length: int = 0
    verify: bool = True
    options: SessionOptions = field(default_factory=SessionOptions)
    digest: bytes = b""


@dataclass(frozen=True)
class TransferRequest:
    """Move an allocation to another place; `place` None is a request that names none."""

    allocation_id: str
    place: Place | None
    verify: bool = True
    options: SessionOptions = field(default_factory=SessionOptions)
    digest: bytes = b""


@dataclass(frozen=True)
class HeldComponent:
    """A component of a model in a place's memory.

    `idle` when no work uses it, so that it may give way.
    """

    device_id: str
    component: LoadedComponent

    @property
    def idle(self) -> bool:
        """Whether it may give way."""
        return not self.component.in_use


HOST_PLACE = "host"
"""Main memory, where places are named by a text; devices are named by their ids."""


@dataclass(frozen=True)
class OwnerInterval:
    """What an owner held during an interval."""

    mean_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class MemoryInterval:
    """A place during `resolution` seconds from `start` on, in Unix seconds.

    `samples` readings are summed up in it. `fragmentation` is the worst of them: the share
    of free memory outside the largest free block, None where nobody tells. `owners` are
    model ids, "leases", "workers" and "others".
    """

    place: str
    resolution: int
    start: int
    peak_bytes: int
    mean_bytes: int
    samples: int
    fragmentation: float | None = None
    owners: Mapping[str, OwnerInterval] = field(default_factory=dict)
    evictions: int = 0
    out_of_memory: int = 0


@dataclass(frozen=True)
class WriteHeader:
    """First part of a write: where its bytes go."""

    allocation_id: str
    offset: int = 0


@dataclass(frozen=True)
class WriteEnd:
    """Last part of a write: SHA-256 of all its bytes, in lower-case hexadecimal."""

    sha256: str


WritePart = WriteHeader | bytes | WriteEnd


@dataclass(frozen=True)
class ReadChunk:
    """Bytes of an allocation from `offset` on; the last one has the SHA-256 of all."""

    offset: int
    data: bytes
    sha256: str = ""
