"""A job on a device as the work of a session: its progress, its pictures, its report."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from domains.errors import Cancelled, DeadlineExceeded, DomainError, Reason
from domains.session.core.jobs import run_job
from domains.session.core.sessions import Sessions
from domains.session.core.snapshots import snapshot_of
from domains.session.jobs import Job, PartEnded, PeakMemory, SpooledImage
from domains.session.types import Phase, PhaseStarted, Preview, WorkOptions
from domains.values import ByteFigure
from tests.domains.session.conftest import picture, started

SPOOLED = SpooledImage(picture(), Path("x"))


class Task(Job[str], frozen=True):
    """Comes to a word."""


class Worker:
    """Tells those events, and remembers what it was asked."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.asked: list[tuple[str, str, Job[Any]]] = []

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        assert remaining > 0
        self.asked.append((device_id, session_id, job))
        for event in self.events:
            if isinstance(event, DomainError):
                raise event
            yield event

    def cancel(self, device_id: str, session_id: str) -> None:
        raise AssertionError("nobody cancels")


async def test_a_session_that_is_to_stop_begins_no_job(sessions: Sessions) -> None:
    session, worker = await started(sessions), Worker("done")
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    with pytest.raises(Cancelled):
        await run_job(worker, session, Task())
    assert worker.asked == []


async def test_its_progress_is_the_sessions_and_its_report_is_returned(
    sessions: Sessions,
) -> None:
    session = await started(sessions)
    preview = Preview(0, 1, 8, 8, b"jpeg")
    worker = Worker(PhaseStarted(Phase.COPYING), preview, "done")

    assert await run_job(worker, session, Task()) == "done"

    assert worker.asked == [("cpu:0", session.session_id, Task())]
    assert session.phase is Phase.COPYING
    assert session.log.entry(2).event == PhaseStarted(Phase.COPYING)
    assert session.log.preview is not None
    assert session.log.preview.event == preview


async def test_pictures_go_to_who_keeps_them(sessions: Sessions) -> None:
    kept: list[SpooledImage] = []

    async def keep(image: SpooledImage) -> None:
        kept.append(image)

    session = await started(sessions)
    await run_job(Worker(SPOOLED, "done"), session, Task(), keep=keep)

    assert kept == [SPOOLED]


async def test_a_picture_that_nobody_keeps_is_a_defect(sessions: Sessions) -> None:
    with pytest.raises(TypeError):
        await run_job(Worker(SPOOLED, "done"), await started(sessions), Task())


async def test_ends_of_parts_go_to_who_wants_them(sessions: Sessions) -> None:
    part, ended = PartEnded(1, "half"), list[PartEnded]()
    session = await started(sessions)
    await run_job(Worker(part, "done"), session, Task(), end_part=ended.append)
    assert ended == [part]


async def test_a_part_that_ends_of_a_job_without_parts_is_a_defect(
    sessions: Sessions,
) -> None:
    with pytest.raises(TypeError):
        await run_job(Worker(PartEnded(0, "half"), "done"), await started(sessions), Task())


async def test_a_job_that_ends_without_its_report_is_a_defect(sessions: Sessions) -> None:
    with pytest.raises(RuntimeError):
        await run_job(Worker(PhaseStarted(Phase.COPYING)), await started(sessions), Task())


async def test_the_most_memory_that_it_took_is_the_sessions(sessions: Sessions) -> None:
    session, figure = await started(sessions), ByteFigure.measured(7, "counted")
    failure = DomainError("It broke.")
    with pytest.raises(DomainError):
        await run_job(Worker(PeakMemory(figure), failure), session, Task())
    assert snapshot_of(session).peak_memory == figure


async def test_a_job_past_the_sessions_time_says_which_time(sessions: Sessions) -> None:
    session = await started(sessions, WorkOptions(run_timeout_seconds=60))
    for error, which in (
        (DeadlineExceeded("over"), "run"),
        (DeadlineExceeded("hung", reason=Reason.WORKER_HUNG), None),
    ):
        with pytest.raises(DeadlineExceeded) as end:
            await run_job(Worker(error), session, Task())
        assert end.value.metadata.get("timeout") == which
        assert end.value.reason is error.reason
