"""The error kinds every domain's errors derive from, and a failure as a value.

A kind is one gRPC status code, stated here and nowhere else; a reason says what happened
in a word a program can act on. Domains raise these. What crosses a process, ends a session
or a call is the error's `Failure`. Messages are shown to clients: they never hold a path,
a token, a prompt or a traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Annotated, ClassVar, Self

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from domains.codec import FEW, FieldPath, Seconds, Text, Texts, Value, one_line

MAX_VIOLATIONS = 20
"""Most violations that a client gets; more would not fit in a call's trailers."""
_MOST_FACTS = 60  # leaves room for those that are added on the way
_LONGEST_PATH = 256
_LONGEST_DELAY = 1e9


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
    IMAGE_UNREADABLE = "IMAGE_UNREADABLE"
    IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"
    IMAGE_FORMAT_UNSUPPORTED = "IMAGE_FORMAT_UNSUPPORTED"
    IMAGE_SIZE_MISMATCH = "IMAGE_SIZE_MISMATCH"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    UPLOAD_INCOMPLETE = "UPLOAD_INCOMPLETE"
    WORKFLOW_INVALID = "WORKFLOW_INVALID"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
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
    UPLOAD_NOT_FOUND = "UPLOAD_NOT_FOUND"
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
    MODEL_BARRED = "MODEL_BARRED"
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
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    HOST_LIMIT_REACHED = "HOST_LIMIT_REACHED"
    # Who may, and the rest.
    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    ROLE_REQUIRED = "ROLE_REQUIRED"
    CANCELLED_BY_CLIENT = "CANCELLED_BY_CLIENT"
    CLIENT_DISCONNECTED = "CLIENT_DISCONNECTED"
    SLOW_READER = "SLOW_READER"
    DEADLINE_EXPIRED = "DEADLINE_EXPIRED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    SERVER_RESTARTED = "SERVER_RESTARTED"
    NOT_BUILT = "NOT_BUILT"
    INTERNAL = "INTERNAL"


class FieldViolation(Value, frozen=True):
    """One broken rule: `field` is the path in snake_case (`settings.loras[1].weight`)."""

    field: FieldPath
    reason: Reason
    description: Text


class Failure(Value, frozen=True):
    """What went wrong, as a call's status or a session's last entry says it.

    `code` is the google.rpc.Code of a kind. `retry_after` is in seconds, None when trying
    again does not help; `incident_id` is the key to the server's log, empty unless the
    fault is the server's.
    """

    code: Annotated[int, Meta(ge=1, le=16)]
    reason: Reason
    message: Text
    metadata: Texts = msgspec.field(default_factory=dict)
    violations: Annotated[tuple[FieldViolation, ...], FEW] = ()
    retry_after: Seconds | None = None
    incident_id: Text = ""

    def __post_init__(self) -> None:
        if self.code not in KINDS:
            raise ValueError("no kind of error has this code")

    def error(self) -> DomainError:
        """The error again, of its kind but no subclass of it."""
        return KINDS[self.code](
            self.message,
            reason=self.reason,
            metadata=self.metadata,
            violations=self.violations,
            retry_after=self.retry_after,
        )

    def renamed(self, name: Callable[[str], str]) -> Failure:
        """The same with the names that another request has for the fields."""
        return replace(self, violations=_renamed(self.violations, name))


def _renamed(
    violations: Iterable[FieldViolation], name: Callable[[str], str]
) -> tuple[FieldViolation, ...]:
    return tuple(replace(each, field=name(each.field)) for each in violations)


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

    code: ClassVar[int] = 13
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

    def failure(self) -> Failure:
        """The error as a value: texts are cut, and `violations_omitted` in the metadata
        counts the violations that are left out.
        """
        metadata = {
            key: one_line(value) for key, value in islice(self.metadata.items(), _MOST_FACTS)
        }
        omitted = len(self.violations) - MAX_VIOLATIONS
        if omitted > 0:
            metadata["violations_omitted"] = str(omitted)
        delay = self.retry_after
        return Failure(
            self.code,
            self.reason,
            one_line(self.message),
            metadata,
            tuple(
                FieldViolation(
                    one_line(broken.field, _LONGEST_PATH),
                    broken.reason,
                    one_line(broken.description),
                )
                for broken in self.violations[:MAX_VIOLATIONS]
            ),
            None if delay is None else min(max(delay, 0.0), _LONGEST_DELAY),
        )


class InvalidArgument(DomainError):
    """The request can never succeed as it is written."""

    code = 3
    reason = Reason.FIELD_OUT_OF_RANGE

    @classmethod
    def of(cls, *violations: FieldViolation) -> Self:
        """An error with these broken rules; the first gives message and reason."""
        first, more = violations[0], len(violations) - 1
        message = f"{first.field}: {first.description}" + (
            f" (and {more} more)" if more else ""
        )
        return cls(message, reason=first.reason, violations=violations)

    def renamed(self, name: Callable[[str], str]) -> InvalidArgument:
        """The same with the names that another request has for the fields."""
        return InvalidArgument(
            self.message,
            reason=self.reason,
            metadata=self.metadata,
            violations=_renamed(self.violations, name),
            retry_after=self.retry_after,
        )

    @classmethod
    def check(cls, *rules: FieldViolation | None) -> None:
        """Raise this error with every broken rule; None is a rule that is kept."""
        broken = [rule for rule in rules if rule is not None]
        if broken:
            raise cls.of(*broken)


class NotFound(DomainError):
    """Something the request names does not exist, or is not the caller's."""

    code = 5


class AlreadyExists(DomainError):
    """The name or request id is taken by something else."""

    code = 6


class FailedPrecondition(DomainError):
    """The request is well formed but the system's state forbids it."""

    code = 9
    reason = Reason.STATE_CONFLICT


class OutOfRange(DomainError):
    """A position lies outside what is kept."""

    code = 11


class PermissionDenied(DomainError):
    """Policy forbids it; trying again does not help."""

    code = 7


class Unauthenticated(DomainError):
    """No valid token came with the call."""

    code = 16


class ResourceExhausted(DomainError):
    """Memory, disk, a queue or a quota is full."""

    code = 8


class Unavailable(DomainError):
    """A worker or device is gone for now; the same call may work later."""

    code = 14


class Cancelled(DomainError):
    """The work was stopped on request."""

    code = 1
    reason = Reason.CANCELLED_BY_CLIENT


class DeadlineExceeded(DomainError):
    """The work ran past its time limit."""

    code = 4
    reason = Reason.DEADLINE_EXPIRED


class DataLoss(DomainError):
    """Stored bytes are not what they were."""

    code = 15


class Unimplemented(DomainError):
    """The contract has it, this version does not do it yet."""

    code = 12
    reason = Reason.NOT_BUILT


class Internal(DomainError):
    """A defect of ours."""

    code = 13
    reason = Reason.INTERNAL


KINDS: Mapping[int, type[DomainError]] = {
    kind.code: kind
    for kind in (
        Cancelled,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}
"""Every kind by its code."""


class FeatureNotBuilt(Unimplemented):
    """The request uses a part of the contract that this version does not do."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(
            f"This version does not do {', '.join(fields)} yet; leave it out.",
            metadata={"fields": ",".join(fields)},
        )
        self.fields = tuple(fields)
