"""Errors of sessions and queues."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from domains.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    DomainError,
    Failure,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from domains.rooms import Room
from domains.session import types

_RESTART_SECONDS = 5.0


class SessionNotFound(NotFound):
    """No such session, or its retention has ended."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"There is no session {session_id!r}; finished sessions are kept for a while only.",
            reason=Reason.SESSION_NOT_FOUND,
            metadata={"session_id": session_id},
        )


class RequestIdReused(AlreadyExists):
    """A request_id came again with another request."""

    def __init__(self, request_id: str, session_id: str) -> None:
        super().__init__(
            "This request_id was used for a different request; choose a new UUID.",
            reason=Reason.REQUEST_ID_REUSED,
            metadata={"request_id": request_id, "session_id": session_id},
        )


class Restarted(Unavailable):
    """The server ended while the session waited or was worked on.

    Args:
        lost_turns: With so many of its turns a worker or the server ended.
    """

    def __init__(self, *, lost_turns: int = 0) -> None:
        how = "The server ended before the session did, and was started again"
        if lost_turns:
            how += f"; the worker or the server ended {lost_turns} times while it was at work"
        super().__init__(
            f"{how}; start the work anew, with another request_id.",
            reason=Reason.SERVER_RESTARTED,
        )


class WorkerLost(Unavailable):
    """The worker ended in mid-work.

    Args:
        device_id: Whose.
        facts: How it ended.
        retry_after: Seconds until there is another one.
        repeats: Whether the work may be tried again: nobody ended the worker to be rid of it.
        gone: Whether its machine was lost with it, so that there will be no other one soon.
    """

    def __init__(
        self,
        device_id: str,
        facts: Mapping[str, str],
        retry_after: float,
        *,
        repeats: bool,
        gone: bool = False,
    ) -> None:
        what = "machine" if gone else "worker"
        super().__init__(
            f"The {what} of device {device_id} was lost in mid-work"
            + ("." if gone else " and is being replaced."),
            reason=Reason.WORKER_LOST,
            metadata={"device_id": device_id, **facts},
            retry_after=retry_after,
        )
        self.repeats = repeats


class DeviceOutOfUse(Unavailable):
    """Work cannot begin: its device has no worker, and is not to have one soon.

    Args:
        device_id: Which.
        explanation: Why.
        retry_after: Seconds until it may have one.
        quarantined: Whether it is kept out of use because its workers died too often.
    """

    def __init__(
        self, device_id: str, explanation: str, retry_after: float, *, quarantined: bool
    ) -> None:
        how = (
            "failed too often and is kept out of use for now" if quarantined else "is not ready"
        )
        super().__init__(
            f"Device {device_id} {how}. {explanation}".strip(),
            reason=Reason.DEVICE_QUARANTINED if quarantined else Reason.DEVICE_UNAVAILABLE,
            metadata={"device_id": device_id},
            retry_after=retry_after,
        )


class EventsExpired(OutOfRange):
    """The event to start from does not exist; how the session stands is said with it."""

    def __init__(
        self,
        from_sequence: int,
        first: int,
        last: int,
        state: types.SessionState,
        progress: float,
    ) -> None:
        super().__init__(
            f"Event {from_sequence} is not kept; this session has {first} to {last}.",
            reason=Reason.EVENTS_EXPIRED,
            metadata={
                "first_sequence": str(first),
                "last_sequence": str(last),
                "state": state.value,
                "progress": f"{progress:.3f}",
            },
        )


class QueueFull(ResourceExhausted):
    """A device's queue has no room: for anybody, or for this client beside others."""

    def __init__(self, device_id: str, length: int, *, shared: bool = False) -> None:
        message = f"The queue of device {device_id} is full ({length} sessions)"
        if not device_id:
            message = f"So many sessions that start others may run at once: {length}"
        elif shared:
            message = (
                f"Others wait for device {device_id}, so this client may have {length}"
                " sessions in its queue, or the queue is full"
            )
        super().__init__(
            f"{message}; try again later.",
            reason=Reason.QUEUE_FULL,
            metadata={"device_id": device_id, "queue_length": str(length)},
            retry_after=5.0,
        )

    @classmethod
    def check(cls, device_id: str, room: Room, client: str) -> None:
        """Refuse a client one more place of a queue that has none for it."""
        if not room.has_place_for(client):
            raise cls(device_id, room.limit_for(client), shared=not room.alone(client))


class TimeLimit(StrEnum):
    """Which of a session's two limits of time."""

    QUEUE = "queue"
    RUN = "run"


class SessionTimedOut(DeadlineExceeded):
    """One of the session's own limits of time passed."""

    def __init__(self, session_id: str, limit: TimeLimit, seconds: float) -> None:
        shown = f"{seconds:g}"
        message = (
            f"The session waited longer than its queue_timeout of {shown} s and never started;"
            " give it more time, or another device."
            if limit is TimeLimit.QUEUE
            else f"The session took longer than its run_timeout of {shown} s."
        )
        super().__init__(
            message,
            metadata={
                "session_id": session_id,
                "timeout": limit.value,
                "timeout_seconds": shown,
            },
        )


class SessionFailed(DomainError):
    """The end of a failed session, for the call that followed it.

    It carries the failure as it was described when it happened, so that the call ends
    with the same status, reason and incident as the session's last entry.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(
            failure.message,
            reason=failure.reason,
            metadata=failure.metadata,
            violations=failure.violations,
            retry_after=failure.retry_after,
        )
        self._failure = failure

    def failure(self) -> Failure:
        """As it was when it happened, with its incident."""
        return self._failure


class SessionCancelled(Cancelled):
    """The end of a session that was stopped on request, for the call that followed it."""

    def __init__(self, session_id: str, end: types.Cancelled) -> None:
        told = {"reason_text": end.reason_text, "cancelled_by": end.cancelled_by}
        super().__init__(
            "The session was cancelled.",
            reason=end.reason,
            metadata={
                "session_id": session_id,
                **{key: text for key, text in told.items() if text},
            },
        )


class ShuttingDown(Unavailable):
    """The server takes no new work and ends its sessions."""

    def __init__(self) -> None:
        super().__init__(
            "The server is shutting down and its sessions end with it; connect again in a"
            " moment and start the work anew.",
            reason=Reason.SHUTTING_DOWN,
            retry_after=_RESTART_SECONDS,
        )


def cancellation(session_id: str, end: types.Cancelled) -> DomainError:
    """The error of the call whose session was cancelled: its kind is that of the reason."""
    if end.reason is Reason.SHUTTING_DOWN:
        return ShuttingDown()
    if end.reason is Reason.DEADLINE_EXPIRED:
        return DeadlineExceeded(
            "The deadline of the call that ran the session passed.",
            metadata={"session_id": session_id},
        )
    return SessionCancelled(session_id, end)
