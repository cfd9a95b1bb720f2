"""Memory values: places, figures, pressure, leases, history, and regions of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import ByteCount, Name, Value
from domains.device.types import DeviceMemory, LoadedComponent
from domains.session.types import WorkOptions
from domains.upload_parts import UploadHeader
from domains.values import ByteFigure


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
    """Bytes of a memory in all and free; None where it is unknown."""

    total: int | None
    free: int | None


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


class PressureLevel(Enum):
    """How tight memory is; the values sort."""

    NORMAL = 0
    ELEVATED = 1
    HIGH = 2
    CRITICAL = 3


class PressureReaction(Enum):
    """What happens at a level of pressure."""

    EVICT_CACHED = "evict-cached"
    UNLOAD_IDLE = "unload-idle"
    REFUSE_ALLOCATIONS = "refuse-allocations"
    REFUSE_WORK = "refuse-work"


@dataclass(frozen=True)
class Threshold:
    """A level begins at a used share of `enter` and ends below `leave` (both 0 to 1).

    `reactions` are what happens then, in order.
    """

    level: PressureLevel
    enter: float
    leave: float
    reactions: tuple[PressureReaction, ...] = ()


@dataclass(frozen=True)
class Pressure:
    """How tight memory is in one place, and since when."""

    place: Place
    level: PressureLevel
    used_share: float
    since_time: datetime


@dataclass(frozen=True)
class Heartbeat:
    """Nothing new in a watch, which lives."""

    event_time: datetime


@dataclass(frozen=True)
class Allocation:
    """Memory that the client `owner` holds until `lease_expire_time`, unless renewed."""

    allocation_id: str
    owner: str
    label: str
    place: Place
    size_bytes: int
    create_time: datetime
    lease_expire_time: datetime


@dataclass(frozen=True)
class AllocationRequest:
    """What a client wants from `CreateAllocation`; `lease_seconds` from now on.

    `place` None is a request that names none. All memory is zeroed; `zeroed` only tells
    requests apart that have the same request_id.
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
    options: WorkOptions = field(default_factory=WorkOptions)
    digest: bytes = b""


@dataclass(frozen=True)
class TransferRequest:
    """Move an allocation to another place; `place` None is a request that names none."""

    allocation_id: str
    place: Place | None
    verify: bool = True
    options: WorkOptions = field(default_factory=WorkOptions)
    digest: bytes = b""


@dataclass(frozen=True)
class WriteHeader:
    """First part of a write: where its bytes go, and which they are."""

    allocation_id: str
    offset: int
    upload: UploadHeader


@dataclass(frozen=True)
class ReadChunk:
    """Bytes of an allocation from `offset` on; the last one has the SHA-256 of all."""

    offset: int
    data: bytes
    sha256: str = ""


SegmentName = Annotated[str, Meta(max_length=256)]
SegmentSerial = Annotated[int, Meta(ge=0, le=2**62)]


class Segment(Value, frozen=True):
    """Host memory that processes of this server share, by name.

    `name` is what another process opens: `/proc/<pid>/fd/<n>` of a memfd on Linux, the
    name of a `multiprocessing.shared_memory` block elsewhere.

    `huge_pages`: all of it but the rest lies in huge pages, so that mapping it costs next
    to nothing.

    `serial` tells it from segments that had its name before: a system gives the number of
    a file that was closed to the next one.
    """

    name: SegmentName
    size_bytes: ByteCount
    huge_pages: bool = False
    serial: SegmentSerial = 0


class SegmentRegion(Value, frozen=True):
    """Shared host memory from byte `offset` on."""

    segment: Segment
    offset: ByteCount = 0


class BufferRegion(Value, frozen=True):
    """A device buffer from byte `offset` on."""

    buffer_id: Name
    offset: ByteCount = 0


Region = SegmentRegion | BufferRegion


class Move(Value, frozen=True):
    """Copy `length` bytes between regions a device's worker reaches; the source stays.

    At least one region is a buffer of that device, and they do not overlap.
    """

    source: Region
    target: Region
    length: ByteCount


class Compare(Value, frozen=True):
    """Compare `length` bytes of two regions that a device's worker reaches.

    At least one region is a buffer of that device.
    """

    first: Region
    second: Region
    length: ByteCount


@dataclass(frozen=True)
class HeldComponent:
    """A component of a model in a device's memory; in main memory's cache where no device is
    named."""

    device_id: str
    component: LoadedComponent


class MemoryHolder(Enum):
    """Who holds memory that is no model's; the values are what the history stores."""

    ALLOCATIONS = "leases"
    SERVER = "workers"
    OTHERS = "others"


Holder = str | MemoryHolder
"""Who holds memory: a model, by its id, or one of those that are none."""


@dataclass(frozen=True)
class Reading:
    """A place at one moment, or without `used_bytes` what happened there.

    `fragmentation` is the share of free memory outside the largest free block, 0 to 1, None
    where no figure tells it. `holders` are the bytes of each.
    """

    place: Place
    used_bytes: int | None = None
    fragmentation: float | None = None
    holders: Mapping[Holder, int] = field(default_factory=dict)
    evictions: int = 0
    out_of_memory: int = 0


@dataclass(frozen=True)
class Sample:
    """The peak of one point of a series, and the worst fragmentation in it."""

    sample_time: datetime
    used_bytes: int
    fragmentation: float | None


@dataclass(frozen=True)
class HolderUsage:
    """What a model or somebody else held over the window."""

    holder: Holder
    mean_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class History:
    """One place over the window; percentiles are over time.

    `p50_bytes` is of the intervals' means, `p95_bytes` of their peaks: the older the
    history, the coarser, and rather too high than too low.
    """

    place: Place
    samples: tuple[Sample, ...] = ()
    peak_bytes: int = 0
    p50_bytes: int = 0
    p95_bytes: int = 0
    holders: tuple[HolderUsage, ...] = ()
    eviction_count: int = 0
    out_of_memory_count: int = 0
    fragmentation_p95: float | None = None
