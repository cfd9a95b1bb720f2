"""Doing a job as part of a session."""

from __future__ import annotations

from contextlib import aclosing
from typing import TypeVar, cast

from domains.session.core.session import Session
from domains.session.jobs import Job, JobRunner
from domains.session.types import Preview, Progress

Report = TypeVar("Report")


async def run_job(runner: JobRunner, session: Session, job: Job[Report]) -> Report:
    """Do a job without pictures on the session's device.

    Its progress is the session's, its report is returned.

    Raises:
        DomainError: As `JobRunner.run`.
        RuntimeError: It ended without a report.
    """
    events = runner.run(
        session.device_id, session.session_id, job, remaining=session.remaining()
    )
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Preview):
                session.show(event)
            elif isinstance(event, Progress):
                session.record(event)
            else:
                return cast(Report, event)
    raise RuntimeError(f"{type(job).__name__} ended without a report")
