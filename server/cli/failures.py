"""Failed calls: what the server said, read into one value and shown as one block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from server.cli.exits import Exit, exit_for
from server.cli.wording import duration, printable, seconds_of

if TYPE_CHECKING:
    import grpc

    from deviceops.v1 import errors_pb2

ERROR_DOMAIN = "deviceops"
_REASON_PREFIX = "ERROR_REASON_"


@dataclass(frozen=True)
class Violation:
    """A field at fault; `reason` is empty when the server gave none."""

    field: str
    description: str
    reason: str = ""


@dataclass(frozen=True)
class CallFailure:
    """Why a call or a session failed.

    Args:
        status: Name of the gRPC status code, `INVALID_ARGUMENT`; `LOCAL` for what went
            wrong on this side, `ITEMS_FAILED` for a batch that ended with items that failed.
        message: The server's sentence.
        reason: The contract's reason, `DIMENSIONS_INVALID`; empty when the failure does
            not come from our server (no connection, a proxy).
        metadata: Facts of the failure.
        violations: The fields at fault, or the items.
        retry_after: Seconds after which trying again is worthwhile.
        incident_id: Key to the server's log.
        advice: What to do about it, where this side knows.
    """

    status: str
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    incident_id: str = ""
    advice: str = ""

    @property
    def exit(self) -> Exit:
        """The exit code of a command that ends with this."""
        return exit_for(self.status)

    @property
    def from_server(self) -> bool:
        """Whether our server said it, and not the transport."""
        return bool(self.reason)


class CallFailed(Exception):
    """A command cannot go on; `failure` is what to tell the person."""

    def __init__(self, failure: CallFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def from_rpc_error(error: grpc.RpcError) -> CallFailure:
    """Read a failed call with its rich details; details that do not parse are left out."""
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status  # type: ignore[import-untyped]

    code, text = error.code(), error.details() or ""
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    delay: float | None = None
    try:
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            for target in (info, request, retry):
                if detail.Is(target.DESCRIPTOR):
                    detail.Unpack(target)
    except (ValueError, DecodeError):
        pass  # details that contradict the status, or are none: the status is what counts
    if retry.HasField("retry_delay"):
        delay = seconds_of(retry.retry_delay)
    ours = info.domain == ERROR_DOMAIN
    metadata = dict(info.metadata) if ours else {}
    return CallFailure(
        status=code.name,
        message=text or code.name,
        reason=info.reason if ours else "",
        metadata=metadata,
        violations=tuple(
            Violation(entry.field, entry.description, entry.reason)
            for entry in request.field_violations
        ),
        retry_after=delay,
        incident_id=metadata.get("incident_id", ""),
    )


def from_failure(failure: errors_pb2.Failure) -> CallFailure:
    """Read the failure that a session's own events report."""
    from google.rpc import code_pb2

    try:
        status = code_pb2.Code.Name(failure.status_code)
    except ValueError:
        status = "UNKNOWN"
    delay = seconds_of(failure.retry_delay) if failure.HasField("retry_delay") else None
    return CallFailure(
        status=status,
        message=failure.message or status,
        reason=_reason(failure.reason),
        metadata=dict(failure.metadata),
        violations=tuple(
            Violation(entry.field, entry.description, entry.reason)
            for entry in failure.violations
        ),
        retry_after=delay,
        incident_id=failure.incident_id,
    )


def _reason(value: int) -> str:
    from deviceops.v1 import errors_pb2

    try:
        name = errors_pb2.ErrorReason.Name(errors_pb2.ErrorReason.ValueType(value))
    except ValueError:
        return str(value)
    return "" if value == 0 else name.removeprefix(_REASON_PREFIX)


def block(failure: CallFailure) -> str:
    """The failure as the lines a person reads; no markup, nothing a terminal obeys."""
    lines = [f"Error: {printable(failure.message)}"]
    if failure.from_server:
        lines.append(f"  reason: {printable(failure.reason)} ({failure.status})")
    lines += [f"  {_fault(violation, failure)}" for violation in failure.violations]
    omitted = failure.metadata.get("violations_omitted", "")
    if omitted and omitted != "0":
        lines.append(f"  and {printable(omitted)} more")
    lines += [
        f"  {printable(key)}: {printable(value)}"
        for key, value in sorted(failure.metadata.items())
        if key not in {"violations_omitted", "incident_id"}
    ]
    if failure.retry_after is not None:
        lines.append(f"  Trying again is worthwhile after {duration(failure.retry_after)}.")
    if failure.advice:
        lines += [f"  {line}" for line in failure.advice.splitlines()]
    if failure.incident_id:
        lines.append(
            f"  incident id: {printable(failure.incident_id)} (the server's log has the cause)"
        )
    return "\n".join(lines)


def _fault(violation: Violation, failure: CallFailure) -> str:
    """A field and what is wrong with it; with its reason where that is not the call's."""
    said = f"{printable(violation.field)}: {printable(violation.description)}"
    if violation.reason and violation.reason != failure.reason:
        said += f" ({printable(violation.reason)})"
    return said


def as_json(failure: CallFailure) -> dict[str, object]:
    """The failure as one JSON object."""
    return {
        "type": "error",
        "status": failure.status,
        "reason": failure.reason,
        "message": failure.message,
        "violations": [
            {"field": v.field, "reason": v.reason, "description": v.description}
            for v in failure.violations
        ],
        "metadata": dict(failure.metadata),
        "retry_after_seconds": failure.retry_after,
        "incident_id": failure.incident_id,
        "advice": failure.advice,
        "exit_code": int(failure.exit),
    }
