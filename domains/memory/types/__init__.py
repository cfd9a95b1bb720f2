"""Memory values: figures, pressure, leases, and the regions that bytes move between."""

from domains.memory.types.figures import (
    HostMemory,
    MemoryStatus,
    Pressure,
    PressureLevel,
    Threshold,
)
from domains.memory.types.history import (
    History,
    OwnerUsage,
    Reading,
    Sample,
)
from domains.memory.types.leases import (
    Allocation,
    AllocationRequest,
    CopyRequest,
    ReadChunk,
    Reconciliation,
    TransferRequest,
    WriteEnd,
    WriteHeader,
    WritePart,
)
from domains.memory.types.models import (
    EvictionReport,
    EvictionRequest,
    HeldComponent,
)
from domains.memory.types.places import (
    Extent,
    Place,
)
from domains.memory.types.regions import (
    BufferRegion,
    Compare,
    Move,
    Region,
    Segment,
    SegmentRegion,
)

__all__ = [
    "Allocation",
    "AllocationRequest",
    "BufferRegion",
    "Compare",
    "CopyRequest",
    "EvictionReport",
    "EvictionRequest",
    "Extent",
    "HeldComponent",
    "History",
    "HostMemory",
    "MemoryStatus",
    "Move",
    "OwnerUsage",
    "Place",
    "Pressure",
    "PressureLevel",
    "ReadChunk",
    "Reading",
    "Reconciliation",
    "Region",
    "Sample",
    "Segment",
    "SegmentRegion",
    "Threshold",
    "TransferRequest",
    "WriteEnd",
    "WriteHeader",
    "WritePart",
]
