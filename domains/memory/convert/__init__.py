"""Memory between proto and domain values."""

from domains.memory.convert.care import (
    REPORTS,
    component_to_proto,
    defragment_from_proto,
    eviction_from_proto,
    history_to_proto,
    points_from_proto,
    recommendations_to_proto,
    window_from_proto,
)
from domains.memory.convert.figures import (
    host_to_proto,
    place_to_proto,
    pressures_to_proto,
    reading_to_proto,
    status_to_proto,
)
from domains.memory.convert.leases import (
    allocation_request_from_proto,
    allocation_to_proto,
    chunk_to_proto,
    copy_from_proto,
    lease_from_proto,
    listing_to_proto,
    parts_from_proto,
    place_from_proto,
    transfer_from_proto,
)

__all__ = [
    "REPORTS",
    "allocation_request_from_proto",
    "allocation_to_proto",
    "chunk_to_proto",
    "component_to_proto",
    "copy_from_proto",
    "defragment_from_proto",
    "eviction_from_proto",
    "history_to_proto",
    "host_to_proto",
    "lease_from_proto",
    "listing_to_proto",
    "parts_from_proto",
    "place_from_proto",
    "place_to_proto",
    "points_from_proto",
    "pressures_to_proto",
    "reading_to_proto",
    "recommendations_to_proto",
    "status_to_proto",
    "transfer_from_proto",
    "window_from_proto",
]
