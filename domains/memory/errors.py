"""Errors of memory: leases, room, copies."""

from __future__ import annotations

from collections.abc import Mapping

from domains.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
)
from domains.memory.types import Place, PressureLevel

_NAME_SHOWN = 64
_RETRY_SECONDS = 5.0


class InvalidMemoryRequest(InvalidArgument):
    """The content of a request breaks rules; the first rule names the reason."""


class AllocationNotFound(NotFound):
    """No allocation of that id that the caller may see; the metadata says why, if known."""

    def __init__(self, allocation_id: str, why: str = "", *, cause: str = "") -> None:
        shown = allocation_id[:_NAME_SHOWN]
        metadata = {"allocation_id": ascii(shown)[1:-1]}
        if cause:
            metadata["cause"] = cause
        super().__init__(
            f"There is no allocation {shown!r}: {why or 'none of yours has this id'}.",
            reason=Reason.ALLOCATION_NOT_FOUND,
            metadata=metadata,
        )


class AllocationBusy(FailedPrecondition):
    """A copy reads or writes the allocation, which forbids this meanwhile."""

    def __init__(self, allocation_id: str, what: str) -> None:
        super().__init__(
            f"The allocation cannot be {what} while a copy uses it; wait for the copy's end "
            "or cancel it.",
            reason=Reason.STATE_CONFLICT,
            metadata={"allocation_id": allocation_id},
            retry_after=1.0,
        )


class OffsetOutOfRange(OutOfRange):
    """A region does not lie within its allocation."""

    def __init__(self, field: str, offset: int, length: int, size: int) -> None:
        super().__init__(
            f"{field}: bytes {offset} to {offset + length} do not lie within an allocation "
            f"of {size} bytes.",
            reason=Reason.OFFSET_OUT_OF_RANGE,
            metadata={
                "field": field,
                "offset_bytes": str(offset),
                "length_bytes": str(length),
                "size_bytes": str(size),
            },
        )


class OutOfMemory(ResourceExhausted):
    """A place has no room; says what was needed, is free and could be evicted."""

    def __init__(
        self,
        place: Place,
        needed: int,
        free: int | None,
        evictable: Mapping[str, int],
        *,
        pressure: PressureLevel | None = None,
    ) -> None:
        room = "unknown" if free is None else str(free)
        metadata = {
            "place": str(place),
            "needed_bytes": str(needed),
            "free_bytes": room,
            "evictable_bytes": str(sum(evictable.values())),
            "evictable_model_ids": ",".join(evictable),
        }
        if place.device_id:
            metadata["device_id"] = place.device_id
        why = f"{room} bytes can be had there"
        if free is not None and free >= needed:
            why = f"{room} bytes are free, and the system refuses so many in one piece"
        if pressure is not None:
            metadata["pressure"] = pressure.name.lower()
            why = f"memory pressure there is {pressure.name.lower()}"
        advice = "Ask for less or free something"
        if evictable:
            advice += "; EvictModels frees memory of models that are idle"
        super().__init__(
            f"{needed} bytes do not fit in {place}: {why}. {advice}.",
            reason=Reason.HOST_OUT_OF_MEMORY if place.host else Reason.DEVICE_OUT_OF_MEMORY,
            metadata=metadata,
            retry_after=_RETRY_SECONDS if pressure is not None else None,
        )


class QuotaExceeded(ResourceExhausted):
    """A client holds as much as it may."""

    def __init__(self, owner: str, pool: str, needed: int, held: int, quota: int) -> None:
        super().__init__(
            f"Client {owner!r} would hold {held + needed} bytes of {pool}, and its quota "
            f"there is {quota}; free something first.",
            reason=Reason.CLIENT_QUOTA_EXCEEDED,
            metadata={
                "owner": owner,
                "needed_bytes": str(needed),
                "held_bytes": str(held),
                "quota_bytes": str(quota),
            },
        )


class WorkRefused(ResourceExhausted):
    """Memory is so tight that no new work begins."""

    def __init__(self, place: Place, used_share: float) -> None:
        super().__init__(
            f"Memory pressure in {place} is critical ({used_share:.0%} used), so no new work "
            "is taken; try again in a moment.",
            reason=Reason.HOST_OUT_OF_MEMORY if place.host else Reason.DEVICE_OUT_OF_MEMORY,
            metadata={
                "place": str(place),
                "pressure": PressureLevel.CRITICAL.name.lower(),
                "used_share": f"{used_share:.3f}",
            },
            retry_after=_RETRY_SECONDS,
        )


class PinningUnsupported(FailedPrecondition):
    """There is no device that main memory could be page-locked for."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"Main memory cannot be pinned: {why}", reason=Reason.DEVICE_UNSUPPORTED
        )


class MemoryElsewhere(FailedPrecondition):
    """Memory of another machine can be used by work there, and not be held for a client."""

    def __init__(self, device_id: str, node: str) -> None:
        super().__init__(
            f"Device {device_id} is in another machine ({node}), whose memory cannot be"
            " allocated, copied or given back from here; use a device of this machine.",
            reason=Reason.DEVICE_UNSUPPORTED,
            metadata={"device_id": device_id, "node": node},
        )


class CopyCorrupted(DataLoss):
    """The target's bytes are not the source's after a copy."""

    def __init__(self, found: Mapping[str, str]) -> None:
        super().__init__(
            "The copied bytes differ from their source; the target's content is undefined.",
            reason=Reason.DATA_CORRUPTED,
            metadata=found,
        )


class ChecksumMismatch(InvalidArgument):
    """What arrived has another hash than what was sent; it has been written as it came."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        super().__init__(
            "The bytes that arrived have another SHA-256 than was announced; the region's "
            "content is what arrived. Write them again.",
            reason=Reason.CHECKSUM_MISMATCH,
            metadata=hashes,
        )


class AllocationRequestReused(AlreadyExists):
    """A request_id came again with another request."""

    def __init__(self, request_id: str, allocation_id: str) -> None:
        super().__init__(
            "This request_id was used for a different request; choose a new UUID.",
            reason=Reason.REQUEST_ID_REUSED,
            metadata={"request_id": request_id, "allocation_id": allocation_id},
        )
