"""Errors of uploads."""

from __future__ import annotations

from domains.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
)


class UploadInvalid(InvalidArgument):
    """A message of an upload breaks a rule."""


class UploadNotFound(NotFound):
    """This client has no unfinished upload of that id."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(
            "There is no such unfinished upload: it was finished, was not gone on with in"
            " time, or the server was restarted. Begin again with offset_bytes 0.",
            reason=Reason.UPLOAD_NOT_FOUND,
            metadata={"upload_id": upload_id},
        )


class UploadOfOtherContent(AlreadyExists):
    """The id is taken by an upload of something else."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(
            "This upload_id is of an unfinished upload of other content; choose a new one.",
            reason=Reason.REQUEST_ID_REUSED,
            metadata={"upload_id": upload_id},
        )


class OffsetNotReceived(OutOfRange):
    """A stream begins elsewhere than where the upload ended."""

    def __init__(self, received_bytes: int, size_bytes: int) -> None:
        super().__init__(
            f"{received_bytes} bytes of this upload are here: go on with that offset_bytes.",
            reason=Reason.OFFSET_OUT_OF_RANGE,
            metadata={"received_bytes": str(received_bytes), "size_bytes": str(size_bytes)},
        )


class UploadIncomplete(InvalidArgument):
    """A stream ended, or its completion came, before all bytes."""

    def __init__(self, received_bytes: int, size_bytes: int) -> None:
        super().__init__(
            f"The upload ended with {received_bytes} of {size_bytes} bytes here, or without its"
            " completion; what is here is kept for ten minutes: go on with that offset_bytes.",
            reason=Reason.UPLOAD_INCOMPLETE,
            metadata={"received_bytes": str(received_bytes), "size_bytes": str(size_bytes)},
        )


class UploadTakenOver(InvalidArgument):
    """Another stream of the same upload goes on with it."""

    def __init__(self) -> None:
        super().__init__(
            "Another stream with this upload_id goes on with the upload; this one ends.",
            reason=Reason.UPLOAD_INCOMPLETE,
        )


class UploadChecksumMismatch(InvalidArgument):
    """The bytes are not those that were announced; they were thrown away."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(
            "The received bytes have another hash than was announced and were thrown away;"
            " upload them again from the beginning.",
            reason=Reason.CHECKSUM_MISMATCH,
            metadata={"expected_sha256": expected, "found_sha256": found},
        )


class TooManyUploads(ResourceExhausted):
    """This client has its share of unfinished uploads."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This client has {limit} unfinished uploads; finish them, or wait until they"
            " expire.",
            reason=Reason.CLIENT_QUOTA_EXCEEDED,
            metadata={"limit": str(limit)},
            retry_after=60.0,
        )
