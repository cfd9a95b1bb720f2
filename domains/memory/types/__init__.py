"""Memory values: figures, pressure, leases, and the regions that bytes move between."""

from domains.memory.types.figures import (
    HostMemory,
    MemoryStatus,
    Pressure,
    PressureLevel,
    Threshold,
)
from domains.memory.types.history import (
    MemoryInterval,
    OwnerInterval,
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
    HOST_PLACE,
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
    "HOST_PLACE",
    "Allocation",
    "AllocationRequest",
    "BufferRegion",
    "Compare",
    "CopyRequest",
    "EvictionReport",
    "EvictionRequest",
    "Extent",
    "HeldComponent",
    "HostMemory",
    "MemoryInterval",
    "MemoryStatus",
    "Move",
    "OwnerInterval",
    "Place",
    "Pressure",
    "PressureLevel",
    "ReadChunk",
    "Reconciliation",
    "Region",
    "Segment",
    "SegmentRegion",
    "Threshold",
    "TransferRequest",
    "WriteEnd",
    "WriteHeader",
    "WritePart",
]
