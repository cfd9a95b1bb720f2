"""Errors of artifacts."""

from __future__ import annotations

from domains.errors import (
    DataLoss,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
)


class ArtifactNotFound(NotFound):
    """There is none of that id, or its retention has ended."""

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

    def __init__(self) -> None:
        super().__init__(
            "The artifact's file is shorter than it was.", reason=Reason.DATA_CORRUPTED
        )


class LargerThanQuota(ResourceExhausted):
    """One result alone is larger than everything that may be kept."""

    def __init__(self, size_bytes: int, quota_bytes: int) -> None:
        super().__init__(
            "The result is larger than the artifact store's quota.",
            reason=Reason.STORAGE_QUOTA_EXCEEDED,
            metadata={"needed_bytes": str(size_bytes), "quota_bytes": str(quota_bytes)},
        )


class DiskFull(ResourceExhausted):
    """There is no room on the disk."""

    def __init__(self) -> None:
        super().__init__(
            "The disk is full; the result could not be kept.", reason=Reason.DISK_FULL
        )
