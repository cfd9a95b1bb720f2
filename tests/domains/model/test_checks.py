"""What a check waits for: its own model's files, and the device only to try it there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from domains.clock import Clock
from domains.device.types import Placement
from domains.model.core.checking import Checks, ValidationReport
from domains.model.jobs import InspectionReport, LoadJob, LoadReport
from domains.model.views import ValidationDepth, ValidationRequest
from domains.session.core.placed import Placed
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.queue import DeviceQueue
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.speeds import Effort
from domains.session.jobs import Job
from domains.session.types import (
    Completed,
    Phase,
    PhaseStarted,
    Priority,
    SessionEvent,
    SessionState,
    WorkOptions,
)
from domains.values import ModelOrigin, PlacementDecision
from server.errors import describe_failure
from tests.domains.sessions import changes_of, follow, runner_of, until_final
from tests.fakes.model import FakeScanner, catalogue_of, model

PATIENCE_SECONDS = 60.0


class Bench:
    """Checks of one model, whose inspection and device wait when they are told to."""

    def __init__(self) -> None:
        self.scanner = FakeScanner(model("ink"))
        self.catalogue = catalogue_of(self.scanner, clock=lambda: datetime.now(UTC))
        self.inspecting, self.inspected = asyncio.Event(), asyncio.Event()
        self.loads: list[LoadJob] = []
        self.sessions = Sessions(
            describe=describe_failure,
            queue_length=8,
            slice_seconds=30.0,
            retention=timedelta(hours=1),
            kept=8,
            clock=Clock(),
            changes=changes_of(Clock()),
        )
        self.checks = Checks(
            self.catalogue,
            self,
            self.place,
            cast("Any", None),
            cast("Any", None),
            self,
            runner_of(self.sessions),
        )

    async def place(self, wanted: Placement, effort: Effort, priority: Priority) -> Placed:
        return Placed(PlacementDecision.named("cpu:0"), effort)

    def loading(self, device_id: str, *model_ids: str) -> tuple[Phase, ...]:
        return (Phase.LOADING_MODEL,)

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        if isinstance(job, LoadJob):
            self.loads.append(job)
            yield PhaseStarted(Phase.LOADING_MODEL)
            yield LoadReport((), ModelOrigin.DISK)
            return
        self.inspecting.set()
        await self.inspected.wait()
        yield InspectionReport((), 0, "")

    def cancel(self, device_id: str, session_id: str) -> None:
        raise AssertionError("nobody asks for it")

    def check(self, depth: ValidationDepth) -> asyncio.Task[list[SessionEvent]]:
        """A check that is under way."""
        request = ValidationRequest("ink", depth, "", WorkOptions(), b"")

        async def events() -> list[SessionEvent]:
            async with asyncio.timeout(PATIENCE_SECONDS):
                wanted = self.checks.check(request)
                return [event async for event in follow(self.sessions, wanted)]

        return asyncio.create_task(events())

    async def other(self, ends: asyncio.Event) -> Session:
        """Other work on the device, which has begun."""
        began = asyncio.Event()

        async def work(session: Session) -> None:
            began.set()
            await ends.wait()

        async def prepare() -> SessionPlan:
            raise AssertionError("it is open already")

        async def turn(session: Session) -> None:
            session.start(lambda: None)
            await work(session)
            session.complete()

        plan = SessionPlan(cast("Any", None), "cpu:0", (), work)
        session = self.sessions.open(plan, turn, SessionRequest(WorkOptions(), b"", prepare))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await began.wait()
        return session


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.catalogue.get("ink")
    yield made
    made.scanner.release.set()
    await made.sessions.stop(0)


async def waiting(queue: DeviceQueue, check: asyncio.Task[Any]) -> Session:
    """The session that waits in a queue, once a check that is under way has put it there."""
    while True:
        submission = queue.submission()
        if queue.waiting():
            return queue.waiting()[0]
        come = asyncio.ensure_future(submission.wait())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait([come, check], return_when=asyncio.FIRST_COMPLETED)
        come.cancel()
        assert not check.done(), check.result()


def report(events: list[SessionEvent]) -> ValidationReport:
    assert isinstance(events[-1].event, Completed)
    found = events[-1].event.report
    assert isinstance(found, ValidationReport)
    return found


async def test_a_check_waits_for_no_look_through_the_roots(bench: Bench) -> None:
    bench.scanner.started.clear()
    bench.scanner.release.clear()
    look = asyncio.create_task(bench.catalogue.refresh())
    await asyncio.to_thread(bench.scanner.started.wait, PATIENCE_SECONDS)
    bench.inspected.set()

    assert report(await bench.check(ValidationDepth.HEADER)).valid
    assert not look.done()
    bench.scanner.release.set()
    await look


async def test_a_deep_check_takes_the_device_for_the_load_alone(bench: Bench) -> None:
    check = bench.check(ValidationDepth.DEEP)
    await bench.inspecting.wait()
    ends = asyncio.Event()
    other = await bench.other(ends)  # begins while the files are read
    bench.inspected.set()
    queue = bench.sessions.queue("cpu:0")
    turn = await waiting(queue, check)
    (parent,) = (one for one in bench.sessions.all() if one not in (turn, other))

    assert bench.loads == []
    assert turn.parent_session_id == parent.session_id
    ends.set()
    events = await check
    assert report(events).valid
    assert len(bench.loads) == 1
    assert PhaseStarted(Phase.LOADING_MODEL) in [event.event for event in events]


async def test_a_cancelled_deep_check_leaves_no_turn_behind(bench: Bench) -> None:
    bench.inspected.set()
    ends = asyncio.Event()
    await bench.other(ends)
    check = bench.check(ValidationDepth.DEEP)
    queue = bench.sessions.queue("cpu:0")
    turn = await waiting(queue, check)

    check.cancel()
    await asyncio.wait([check])
    await until_final(turn)

    assert turn.state is SessionState.CANCELLED
    assert bench.loads == []
    ends.set()
