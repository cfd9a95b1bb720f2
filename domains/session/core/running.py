"""Doing a job as part of a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from domains.session.core.session import Session
from domains.session.jobs import Job, JobRunner, SpooledImage
from domains.session.types import (
    ImageDecoded,
    PhaseStarted,
    Preview,
    StepFinished,
    TextEncoded,
    TransferProgress,
)

Report = TypeVar("Report")


async def run_job(
    runner: JobRunner, device_id: str, session: Session, job: Job[Report]
) -> Report:
    """Do a job without pictures: its progress is the session's, its report is returned.

    Raises:
        DomainError: What the port raises.
    """
    report: Any = None
    events: AsyncGenerator[Any] = runner.run(
        device_id, session.session_id, job, remaining=max(session.remaining(), 0.0)
    )
    async with aclosing(events):
        async for event in events:
            match event:
                case Preview():
                    session.show(event)
                case SpooledImage():
                    raise TypeError("a job without pictures made one")
                case (
                    PhaseStarted()
                    | TransferProgress()
                    | TextEncoded()
                    | StepFinished()
                    | ImageDecoded()
                ):
                    session.record(event)
                case _:
                    report = event
    if report is None:
        raise RuntimeError("a job ended without a report")
    done: Report = report
    return done
