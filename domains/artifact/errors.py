"""Errors of artifacts."""

from __future__ import annotations

from domains.errors import (
    DataLoss,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
    Unavailable,
)


class ArtifactNotFound(NotFound):
    """There is none of that id, its retention has ended, or its file was deleted."""

    def __init__(self, artifact_id: str) -> None:
        super().__init__(
            "There is no such artifact; artifacts are kept for a while only.",
            reason=Reason.ARTIFACT_NOT_FOUND,
            metadata={"artifact_id": artifact_id},
        )


class ArtifactBeingRead(FailedPrecondition):
    """It cannot be deleted while a client downloads it."""

    def __init__(self) -> None:
        super().__init__(
            "The artifact is being read.",
            reason=Reason.STATE_CONFLICT,
            metadata={"state": "being-read"},
        )


class ArtifactNeeded(FailedPrecondition):
    """It cannot be deleted while accepted work of its owner has not come to it yet."""

    def __init__(self) -> None:
        super().__init__(
            "Work that has not ended needs the artifact; cancel it, or wait for its end.",
            reason=Reason.STATE_CONFLICT,
            metadata={"state": "needed"},
        )


class OffsetPastEnd(OutOfRange):
    """Bytes are asked for that the artifact does not have."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"The artifact has {size_bytes} bytes.",
            reason=Reason.OFFSET_OUT_OF_RANGE,
            metadata={"size_bytes": str(size_bytes)},
        )


class ArtifactDamaged(DataLoss):
    """The file on disk is not what it was."""

    def __init__(self, artifact_id: str) -> None:
        super().__init__(
            "The artifact's file no longer has the artifact's hash, and was set aside. The same"
            " request with the same seed draws it again.",
            reason=Reason.DATA_CORRUPTED,
            metadata={"artifact_id": artifact_id},
        )


class StorageUnavailable(Unavailable):
    """The folder of artifacts, or a file in it, cannot be read or written now."""

    def __init__(self) -> None:
        super().__init__(
            "The artifact's file cannot be read or written now; the server's log says why.",
            reason=Reason.STORAGE_UNAVAILABLE,
        )


class LargerThanQuota(ResourceExhausted):
    """It alone is larger than everything that may be kept, beside what is held: pinned, or
    needed by work that has not ended."""

    def __init__(self, size_bytes: int, quota_bytes: int, held_bytes: int = 0) -> None:
        facts = {"needed_bytes": str(size_bytes), "quota_bytes": str(quota_bytes)}
        beside = ""
        if held_bytes:
            facts["pinned_bytes"] = str(held_bytes)
            beside = f", of which pinned artifacts and those that work needs take {held_bytes}"
        super().__init__(
            f"{size_bytes} bytes are more than the artifact store keeps{beside}; raise"
            " artifact_quota_bytes, unpin what is not needed, or let work end.",
            reason=Reason.STORAGE_QUOTA_EXCEEDED,
            metadata=facts,
        )


class TooMuchPinned(ResourceExhausted):
    """No more artifacts may be pinned, by all or by this client."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"A client may pin {limit_bytes} bytes of artifacts as things are; unpin others, or"
            " give this one a long retention.",
            reason=Reason.STORAGE_QUOTA_EXCEEDED,
            metadata={"needed_bytes": str(size_bytes), "limit_bytes": str(limit_bytes)},
        )


class UploadsTooLarge(ResourceExhausted):
    """This client's unfinished uploads take their share of the room already."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"The unfinished uploads of a client may have {limit_bytes} bytes as things are;"
            " finish the others, or wait until they expire.",
            reason=Reason.CLIENT_QUOTA_EXCEEDED,
            metadata={"needed_bytes": str(size_bytes), "limit_bytes": str(limit_bytes)},
            retry_after=60.0,
        )


class DiskFull(ResourceExhausted):
    """There is no room on the disk."""

    def __init__(self) -> None:
        super().__init__(
            "The disk is full; the result could not be kept.", reason=Reason.DISK_FULL
        )


class DiskReserved(ResourceExhausted):
    """So little of the disk is free that nothing more is kept."""

    def __init__(self, free_bytes: int, min_free_bytes: int, needed_bytes: int = 0) -> None:
        facts = {"free_bytes": str(free_bytes), "min_free_bytes": str(min_free_bytes)}
        if needed_bytes:
            facts["needed_bytes"] = str(needed_bytes)
        super().__init__(
            f"Only {free_bytes} bytes of the disk are free, and {min_free_bytes} are left to"
            " others (artifact_min_free_bytes); this could not be kept. Free some space.",
            reason=Reason.DISK_FULL,
            metadata=facts,
        )
