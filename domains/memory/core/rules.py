"""The rules that requests about leases and copies must keep."""

from __future__ import annotations

from collections.abc import Iterable

from domains import checks
from domains.errors import FieldViolation
from domains.limits import LIMITS
from domains.memory.errors import InvalidMemoryRequest, OffsetOutOfRange
from domains.memory.types import AllocationRequest, CopyRequest, Place, TransferRequest
from domains.session.core.options import check_options


def check_allocation(request: AllocationRequest) -> None:
    """Raise InvalidMemoryRequest with every rule the request breaks."""
    InvalidMemoryRequest.check(
        *_place("place", request.place),
        checks.number(
            "size_bytes", request.size_bytes, LIMITS["CreateAllocationRequest.size_bytes"]
        ),
        checks.number("lease", request.lease_seconds, LIMITS["CreateAllocationRequest.lease"]),
        checks.line("label", request.label, LIMITS["CreateAllocationRequest.label"]),
        checks.request_id("request_id", request.request_id) if request.request_id else None,
    )


def check_renewal(allocation_ids: Iterable[str], lease_seconds: float) -> None:
    """Raise InvalidMemoryRequest with every rule the request breaks."""
    ids = tuple(allocation_ids)
    limit = LIMITS["RenewLeasesRequest.allocation_ids"]
    InvalidMemoryRequest.check(
        checks.elements("allocation_ids", len(ids), limit),
        checks.number("lease", lease_seconds, LIMITS["RenewLeasesRequest.lease"]),
    )


def check_copy(request: CopyRequest) -> None:
    """Raise InvalidMemoryRequest with every rule the request breaks."""
    InvalidMemoryRequest.check(
        checks.required("source_allocation_id", request.source_id),
        checks.required("target_allocation_id", request.target_id),
        *check_options(request.options, "options"),
    )


def check_transfer(request: TransferRequest) -> None:
    """Raise InvalidMemoryRequest with every rule the request breaks."""
    InvalidMemoryRequest.check(
        checks.required("allocation_id", request.allocation_id),
        *_place("place", request.place),
        *check_options(request.options, "options"),
    )


def check_listing(place: Place | None, owner: str) -> None:
    """Raise InvalidMemoryRequest when a place or owner that is named is badly named."""
    InvalidMemoryRequest.check(
        *([] if place is None else _place("place", place)),
        checks.name("owner", owner) if owner else None,
    )


def length_within(field: str, offset: int, length: int, size: int) -> int:
    """How many bytes are meant from `offset` on; a `length` of 0 means to the end.

    Raises:
        OffsetOutOfRange: They do not lie within `size` bytes.
    """
    wanted = length or size - offset
    if not 0 <= offset <= size or wanted < 0 or offset + wanted > size:
        raise OffsetOutOfRange(field, offset, length, size)
    return wanted


def _place(field: str, place: Place | None) -> list[FieldViolation | None]:
    if place is None:
        return [checks.required(field, None)]
    return [] if place.host else [checks.device_id(f"{field}.device_id", place.device_id)]
