"""Errors over the worker link: their kind, reason and facts survive, their class does not."""

from __future__ import annotations

from typing import Final

from deviceops.worker.v1 import worker_pb2
from domains import errors
from domains.conversions import REASONS
from domains.errors import DomainError, FieldViolation
from server.worker.frames import ProtocolError
from server.worker.message_checks import finite, known, printable, texts

# google.rpc.Code of each kind. server/errors.py has the same table for gRPC, which the
# worker's interpreter need not have; a test compares the two.
CODES: Final[dict[type[DomainError], int]] = {
    errors.Cancelled: 1,
    errors.InvalidArgument: 3,
    errors.DeadlineExceeded: 4,
    errors.NotFound: 5,
    errors.AlreadyExists: 6,
    errors.PermissionDenied: 7,
    errors.ResourceExhausted: 8,
    errors.FailedPrecondition: 9,
    errors.OutOfRange: 11,
    errors.Unimplemented: 12,
    errors.Internal: 13,
    errors.Unavailable: 14,
    errors.DataLoss: 15,
    errors.Unauthenticated: 16,
}
_KINDS = {code: kind for kind, code in CODES.items()}
_LONGEST_TEXT = 1000
_MOST_VIOLATIONS = 64


def error_to_proto(error: DomainError) -> worker_pb2.Failed:
    """An error on its way to the front; texts are cut to what the link takes."""
    code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), 13)
    message = worker_pb2.Failed(
        status_code=code,
        reason=REASONS.to_proto(error.reason),
        message=_one_line(error.message),
        metadata={key: _one_line(value) for key, value in error.metadata.items()},
        retry_after_seconds=error.retry_after,
    )
    for violation in error.violations[:_MOST_VIOLATIONS]:
        message.violations.add(
            field=violation.field,
            reason=REASONS.to_proto(violation.reason),
            description=_one_line(violation.description),
        )
    return message


def error_from_proto(message: worker_pb2.Failed) -> DomainError:
    """The error that a worker reports, as one of the kinds.

    Raises:
        ProtocolError: It breaks a rule of the link.
    """
    kind = _KINDS.get(message.status_code)
    if kind is None:
        raise ProtocolError("status_code is no code of an error")
    if len(message.violations) > _MOST_VIOLATIONS:
        raise ProtocolError("too many violations")
    return kind(
        printable(message.message, "message", longest=_LONGEST_TEXT),
        reason=known(REASONS, message.reason, "reason"),
        metadata=texts(message.metadata, "metadata", longest=_LONGEST_TEXT),
        violations=[
            FieldViolation(
                printable(violation.field, "violation", longest=256),
                known(REASONS, violation.reason, "violation"),
                printable(violation.description, "violation", longest=_LONGEST_TEXT),
            )
            for violation in message.violations
        ],
        retry_after=finite(message.retry_after_seconds, "retry_after_seconds")
        if message.HasField("retry_after_seconds")
        else None,
    )


def _one_line(text: str) -> str:
    cut = text[:_LONGEST_TEXT]
    return "".join(character if character.isprintable() else " " for character in cut)
