"""Errors over the worker link: their kind, reason and facts survive, their class does not."""

from __future__ import annotations

from deviceops.worker.v1 import worker_pb2
from domains.conversions import REASONS
from domains.errors import KINDS, DomainError, FieldViolation
from server.worker.frames import ProtocolError
from server.worker.message_checks import finite, known, printable, texts

_LONGEST_TEXT = 1000
_MOST_VIOLATIONS = 64


def error_to_proto(error: DomainError) -> worker_pb2.Failed:
    """An error on its way to the front."""
    failure = error.failure()
    message = worker_pb2.Failed(
        status_code=failure.code,
        reason=REASONS.to_proto(failure.reason),
        message=failure.message,
        metadata=failure.metadata,
        retry_after_seconds=failure.retry_after,
    )
    for violation in failure.violations:
        message.violations.add(
            field=violation.field,
            reason=REASONS.to_proto(violation.reason),
            description=violation.description,
        )
    return message


def error_from_proto(message: worker_pb2.Failed) -> DomainError:
    """The error that a worker reports, as one of the kinds.

    Raises:
        ProtocolError: It breaks a rule of the link.
    """
    kind = KINDS.get(message.status_code)
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
