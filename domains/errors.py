"""The error kinds every domain's errors derive from.

A kind is one gRPC status code; a reason says what happened in a word a program can
act on. Domains raise these; `server/errors.py` is the one table that turns a kind into
a status and the details a client sees. Messages are shown to clients: they never hold
a path, a token, a prompt or a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Why a call failed: the values of `deviceops.v1.ErrorReason` without their prefix."""

    # Request content.
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    REQUIRED_FIELD_MISSING = "REQUIRED_FIELD_MISSING"
    FIELD_OUT_OF_RANGE = "FIELD_OUT_OF_RANGE"
    NON_FINITE_NUMBER = "NON_FINITE_NUMBER"
    ENUM_VALUE_UNKNOWN = "ENUM_VALUE_UNKNOWN"
    TOO_MANY_ELEMENTS = "TOO_MANY_ELEMENTS"
    FIELDS_CONFLICT = "FIELDS_CONFLICT"
    TEXT_INVALID = "TEXT_INVALID"
    TEXT_TOO_LONG = "TEXT_TOO_LONG"
    PROMPT_SYNTAX = "PROMPT_SYNTAX"
    NAME_INVALID = "NAME_INVALID"
    REQUEST_ID_INVALID = "REQUEST_ID_INVALID"
    DIMENSIONS_INVALID = "DIMENSIONS_INVALID"
    SEED_INVALID = "SEED_INVALID"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
    METADATA_INVALID = "METADATA_INVALID"
    IMAGE_UNREADABLE = "IMAGE_UNREADABLE"
    IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"
    IMAGE_FORMAT_UNSUPPORTED = "IMAGE_FORMAT_UNSUPPORTED"
    IMAGE_SIZE_MISMATCH = "IMAGE_SIZE_MISMATCH"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    UPLOAD_INCOMPLETE = "UPLOAD_INCOMPLETE"
    WORKFLOW_INVALID = "WORKFLOW_INVALID"
    # Something named does not exist, exists already, or is in the wrong state.
    DEVICE_NOT_FOUND = "DEVICE_NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    ARTIFACT_NOT_FOUND = "ARTIFACT_NOT_FOUND"
    ALLOCATION_NOT_FOUND = "ALLOCATION_NOT_FOUND"
    WORKFLOW_NOT_FOUND = "WORKFLOW_NOT_FOUND"
    BATCH_NOT_FOUND = "BATCH_NOT_FOUND"
    POLICY_NOT_FOUND = "POLICY_NOT_FOUND"
    POSTPROCESSOR_NOT_FOUND = "POSTPROCESSOR_NOT_FOUND"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    NAME_TAKEN = "NAME_TAKEN"
    STATE_CONFLICT = "STATE_CONFLICT"
    EVENTS_EXPIRED = "EVENTS_EXPIRED"
    OFFSET_OUT_OF_RANGE = "OFFSET_OUT_OF_RANGE"
    # Models.
    MODEL_INCOMPLETE = "MODEL_INCOMPLETE"
    MODEL_TRUNCATED = "MODEL_TRUNCATED"
    MODEL_HEADER_INVALID = "MODEL_HEADER_INVALID"
    MODEL_HEADER_TOO_LARGE = "MODEL_HEADER_TOO_LARGE"
    MODEL_SHAPE_INVALID = "MODEL_SHAPE_INVALID"
    MODEL_DTYPE_UNSUPPORTED = "MODEL_DTYPE_UNSUPPORTED"
    MODEL_TENSOR_NAME_INVALID = "MODEL_TENSOR_NAME_INVALID"
    MODEL_CONFIG_INVALID = "MODEL_CONFIG_INVALID"
    MODEL_FORMAT_UNSUPPORTED = "MODEL_FORMAT_UNSUPPORTED"
    MODEL_UNSAFE_PICKLE = "MODEL_UNSAFE_PICKLE"
    MODEL_ARCHIVE_INVALID = "MODEL_ARCHIVE_INVALID"
    MODEL_STRUCTURE_INVALID = "MODEL_STRUCTURE_INVALID"
    MODEL_INCOMPATIBLE = "MODEL_INCOMPATIBLE"
    MODEL_NON_FINITE = "MODEL_NON_FINITE"
    MODEL_IN_USE = "MODEL_IN_USE"
    MODEL_CHECKSUM_MISMATCH = "MODEL_CHECKSUM_MISMATCH"
    REMOTE_SOURCE_FORBIDDEN = "REMOTE_SOURCE_FORBIDDEN"
    PATH_OUTSIDE_ROOT = "PATH_OUTSIDE_ROOT"
    # Devices and workers.
    DEVICE_UNAVAILABLE = "DEVICE_UNAVAILABLE"
    DEVICE_LOST = "DEVICE_LOST"
    DEVICE_QUARANTINED = "DEVICE_QUARANTINED"
    DEVICE_UNSUPPORTED = "DEVICE_UNSUPPORTED"
    WORKER_LOST = "WORKER_LOST"
    WORKER_CRASH_REPEATED = "WORKER_CRASH_REPEATED"
    WORKER_HUNG = "WORKER_HUNG"
    NON_FINITE_OUTPUT = "NON_FINITE_OUTPUT"
    DATA_CORRUPTED = "DATA_CORRUPTED"
    # Room.
    QUEUE_FULL = "QUEUE_FULL"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    CLIENT_QUOTA_EXCEEDED = "CLIENT_QUOTA_EXCEEDED"
    STORAGE_QUOTA_EXCEEDED = "STORAGE_QUOTA_EXCEEDED"
    DISK_FULL = "DISK_FULL"
    HOST_OUT_OF_MEMORY = "HOST_OUT_OF_MEMORY"
    DEVICE_OUT_OF_MEMORY = "DEVICE_OUT_OF_MEMORY"
    # Who may, and the rest.
    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    ROLE_REQUIRED = "ROLE_REQUIRED"
    CANCELLED_BY_CLIENT = "CANCELLED_BY_CLIENT"
    CLIENT_DISCONNECTED = "CLIENT_DISCONNECTED"
    SLOW_READER = "SLOW_READER"
    DEADLINE_EXPIRED = "DEADLINE_EXPIRED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    NOT_BUILT = "NOT_BUILT"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class FieldViolation:
    """One broken rule: `field` is the path in snake_case (`settings.loras[1].weight`)."""

    field: str
    reason: Reason
    description: str


class DomainError(Exception):
    """An expected failure, on its way to a client.

    Args:
        message: One English sentence for a person, with what to do about it.
        reason: What happened, for a program.
        metadata: Facts a program can use; keys are snake_case with their unit
            (`needed_bytes`), values are text.
        violations: The fields at fault, when the request is.
        retry_after: Seconds after which trying again is worthwhile.
    """

    reason: Reason = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after


class InvalidArgument(DomainError):
    """The request can never succeed as it is written."""

    reason = Reason.FIELD_OUT_OF_RANGE

    @classmethod
    def of(cls, *violations: FieldViolation) -> Self:
        """What a client is told of broken rules: the first gives message and reason."""
        first, more = violations[0], len(violations) - 1
        message = f"{first.field}: {first.description}" + (
            f" (and {more} more)" if more else ""
        )
        return cls(message, reason=first.reason, violations=violations)

    @classmethod
    def check(cls, *rules: FieldViolation | None) -> None:
        """Raise this error with every broken rule; None is a rule that is kept."""
        broken = [rule for rule in rules if rule is not None]
        if broken:
            raise cls.of(*broken)


class NotFound(DomainError):
    """Something the request names does not exist, or is not the caller's."""


class AlreadyExists(DomainError):
    """The name or request id is taken by something else."""


class FailedPrecondition(DomainError):
    """The request is well formed but the system's state forbids it."""

    reason = Reason.STATE_CONFLICT


class OutOfRange(DomainError):
    """A position lies outside what is kept."""


class PermissionDenied(DomainError):
    """Policy forbids it, whoever retries."""


class Unauthenticated(DomainError):
    """No valid token came with the call."""


class ResourceExhausted(DomainError):
    """Memory, disk, a queue or a quota is full."""


class Unavailable(DomainError):
    """A worker or device is gone for now; the same call may work later."""


class Cancelled(DomainError):
    """The work was stopped on request."""

    reason = Reason.CANCELLED_BY_CLIENT


class DeadlineExceeded(DomainError):
    """The work ran past its time limit."""

    reason = Reason.DEADLINE_EXPIRED


class DataLoss(DomainError):
    """Stored bytes are not what they were."""


class Unimplemented(DomainError):
    """The contract has it, this version does not do it yet."""

    reason = Reason.NOT_BUILT


class Internal(DomainError):
    """A defect of ours."""
