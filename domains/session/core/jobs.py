"""Doing a job on a device as the work of a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from domains.errors import Cancelled, DeadlineExceeded, Reason
from domains.session.core.session import Session
from domains.session.errors import SessionTimedOut, TimeLimit
from domains.session.jobs import Job, JobRunner, PartEnded, PeakMemory, SpooledImage
from domains.session.types import ProgressEvent

Report = TypeVar("Report")


async def run_job(
    runner: JobRunner,
    session: Session,
    job: Job[Report],
    *,
    device_id: str = "",
    record: Callable[[ProgressEvent], None] | None = None,
    keep: Callable[[SpooledImage], Awaitable[None]] | None = None,
    end_part: Callable[[PartEnded], None] | None = None,
) -> Report:
    """Do a job on a device: its progress is the session's, its report is returned.

    Args:
        runner: The workers.
        session: Whose work it is.
        job: What to do.
        device_id: Where, if not on the session's device.
        record: Takes its progress, if not the session as a whole.
        keep: Takes a finished picture; None for jobs without pictures.
        end_part: Takes the end of a part of it; None for jobs without parts.

    Raises:
        Cancelled: The session is being cancelled.
        SessionTimedOut: The session's run_timeout is over.
        DomainError: What the port raises.
    """
    if session.cancel_reason is not None:  # a runner stops what it has, not what is to come
        raise Cancelled("The session was cancelled before this job began.")
    report: Any = None
    events: AsyncGenerator[Any] = runner.run(
        device_id or session.device_id,
        session.session_id,
        job,
        remaining=session.run_left(),
    )
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, ProgressEvent):
                    (record or session.record)(event)
                elif isinstance(event, PeakMemory):
                    session.note_peak(event.figure)
                elif isinstance(event, SpooledImage):
                    if keep is None:
                        raise TypeError("a job without pictures made one")
                    await keep(event)
                elif isinstance(event, PartEnded):
                    if end_part is None:
                        raise TypeError("a part ended of a job without parts")
                    end_part(event)
                else:
                    report = event
    except DeadlineExceeded as error:
        if error.reason is not Reason.DEADLINE_EXPIRED:
            raise  # a worker that hung
        # Workers know how long they have, not by which of a session's limits.
        seconds = session.options.run_timeout_seconds
        raise SessionTimedOut(session.session_id, TimeLimit.RUN, seconds) from error
    if report is None:
        raise RuntimeError("a job ended without a report")
    done: Report = report
    return done
