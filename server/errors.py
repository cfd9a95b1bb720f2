"""What a client sees of any exception, and a failure as a gRPC status with details.

Every failure of a call or a session goes through `describe_failure`, so both say the
same; unknown exceptions get an incident id and leave their text in the log only.
"""

from __future__ import annotations

import errno
import math
import sqlite3
import uuid

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]
from msgspec.structs import replace

from domains import errors
from domains.errors import DomainError, Failure, FieldViolation
from domains.shortages import shortage_of

DOMAIN = "deviceops"
# Trailers over 8 KB break clients. Details travel in base64, the message a second time
# in percent encoding; these sum to 7.6 KB.
_DETAILS_BYTES = 4_600
_ENCODED_MESSAGE_BYTES = 1_500
# Shortest texts last: (longest text in bytes, most violations), each step smaller.
_FITS = ((800, 20), (300, 20), (120, 20), (60, 20), (60, 10), (40, 5), (40, 0))

_PUSHBACK = "grpc-retry-pushback-ms"
_SERVER_FAILED = "The server failed."

_log = structlog.get_logger("deviceops.errors")


def describe_failure(error: BaseException) -> Failure:
    """What a client sees of any exception.

    A fault of the server is logged with its traceback when it is first described; asked
    again about the same exception, the incident id is the same.
    """
    known = _known(error)
    failure = (known or errors.Internal(_SERVER_FAILED)).failure()
    if failure.code != errors.Internal.code or failure.incident_id:
        return failure
    incident_id = _incident(error)
    pointer = "" if known else f" Its log has the details under incident {incident_id}."
    return replace(
        failure,
        message=failure.message + pointer,
        metadata={**failure.metadata, "incident_id": incident_id},
        incident_id=incident_id,
    )


def to_status(error: BaseException) -> grpc.Status:
    """The status of a call that failed so, for `context.abort_with_status`.

    How long to wait stands in RetryInfo for programs, and in milliseconds in a trailer that
    gRPC clients read by themselves when they have a retry policy.
    """
    failure = describe_failure(error)
    status = rpc_status.to_status(rich_status(failure))
    if failure.retry_after is not None:
        pushback = (_PUSHBACK, str(_milliseconds(failure.retry_after)))
        status = status._replace(trailing_metadata=(*status.trailing_metadata, pushback))
    result: grpc.Status = status
    return result


def rich_status(failure: Failure) -> status_pb2.Status:
    """The google.rpc.Status, with texts and violations cut until the trailers fit."""
    status = status_pb2.Status()
    for longest, violations in _FITS:
        status = _rich_status(failure, longest, violations)
        if status.ByteSize() <= _DETAILS_BYTES:
            break
    return status


def _rich_status(failure: Failure, longest: int, violations: int) -> status_pb2.Status:
    metadata = dict(failure.metadata)
    if len(failure.violations) > violations:
        omitted = int(metadata.get("violations_omitted", "0"))
        metadata["violations_omitted"] = str(omitted + len(failure.violations) - violations)
    details = [
        error_details_pb2.ErrorInfo(
            reason=failure.reason,
            domain=DOMAIN,
            metadata={key: cut(value, longest) for key, value in metadata.items()},
        )
    ]
    packed = [_packed(detail) for detail in details]
    if failure.violations[:violations]:
        packed.append(_packed(_bad_request(failure.violations[:violations], longest)))
    if failure.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(_milliseconds(failure.retry_after))
        packed.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    message = cut(failure.message, _ENCODED_MESSAGE_BYTES, percent_encoded=True)
    return status_pb2.Status(code=failure.code, message=message, details=packed)


def _milliseconds(seconds: float) -> int:
    return math.ceil(max(seconds, 0) * 1000)


def _bad_request(
    violations: tuple[FieldViolation, ...], longest: int
) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=cut(violation.field, min(longest, 200)),
                reason=violation.reason,
                description=cut(violation.description, longest),
            )
            for violation in violations
        ]
    )


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def cut(text: str, longest: int, *, percent_encoded: bool = False) -> str:
    """The text in at most `longest` UTF-8 bytes, with an ellipsis where it was cut.

    With `percent_encoded`, bytes outside printable ASCII count three, as gRPC sends them.
    """
    text = text.encode("utf-8", "replace").decode()
    room = longest - _encoded_size("…", percent_encoded)
    size = kept = 0
    for position, character in enumerate(text):
        size += _encoded_size(character, percent_encoded)
        if size <= room:
            kept = position + 1
        if size > longest:
            return text[:kept] + "…"
    return text


def _encoded_size(character: str, percent_encoded: bool) -> int:
    if percent_encoded and not (" " <= character <= "~" and character != "%"):
        return 3 * len(character.encode())
    return len(character.encode())


def _known(error: BaseException) -> DomainError | None:
    """The domain error it is or amounts to."""
    if isinstance(error, DomainError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.OperationalError) and code == sqlite3.SQLITE_FULL:
        return shortage_of(OSError(errno.ENOSPC, "full"))
    return shortage_of(error)


def _incident(error: BaseException) -> str:
    known: str | None = getattr(error, "_deviceops_incident_id", None)
    if known is not None:
        return known
    incident_id = uuid.uuid4().hex[:16]
    error._deviceops_incident_id = incident_id  # type: ignore[attr-defined]
    _log.error("incident", incident_id=incident_id, exc_info=error)
    return incident_id
