"""A chain over several turns of its session: what each gets, and when others may go first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from domains.chain.core.preparing import PreparedChain
from domains.chain.core.statistics import StepStatistics
from domains.chain.jobs import (
    ChainJob,
    ChainKept,
    ChainReport,
    PausedChain,
    SafetyCheckJob,
    SafetyFindings,
)
from domains.chain.types import DenoiseStep, SharpenStep, UpscaleStep
from domains.device.core.facts import TransientFacts
from domains.errors import Unavailable
from domains.picture.types import PreparedPicture
from domains.postprocessing.core.run import ChainRun, Piece
from domains.postprocessing.core.turns import Turns
from domains.safety import (
    CategoryScore,
    Findings,
    SafetyAction,
    SafetyPolicy,
    SafetyRule,
    SafetySubject,
)
from domains.session.core.placed import Placed
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.runner import turn_of
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.speeds import Effort
from domains.session.jobs import Job, WorkPaused
from domains.session.types import (
    Phase,
    PhaseStarted,
    PieceFinished,
    SessionKind,
    SessionState,
    WorkOptions,
)
from domains.session.types import Piece as Kind
from domains.values import OutputSettings, PlacementDecision
from tests.clocks import SteeredTime
from tests.domains.inference.conftest import FakePausedFiles
from tests.domains.session.conftest import registry, unprepared

STEPS = (SharpenStep(), UpscaleStep(), DenoiseStep())
JOB = ChainJob(PreparedPicture(Path("p"), 2, 2, "a" * 64), STEPS, 2, 2, OutputSettings())
REPORT = ChainReport(1.0, 2.0, 3.0)


class Runs:
    """Workers that do as they are told, turn after turn: raise, tell, wait for a pause, end."""

    def __init__(self, *turns: object) -> None:
        self.turns, self.jobs = list(turns), list[Job[Any]]()
        self.began, self.asked = asyncio.Event(), asyncio.Event()

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        self.jobs.append(job)
        told = self.turns.pop(0)
        for each in told if isinstance(told, list) else [told]:
            if each is Runs:  # works until it is to pause
                self.began.set()
                await self.asked.wait()
                self.asked.clear()
                self.began.clear()
            elif isinstance(each, Exception):
                raise each
            else:
                yield each

    def pause(self, device_id: str, session_id: str) -> None:
        self.asked.set()

    def cancel(self, device_id: str, session_id: str) -> None:
        self.asked.set()


class Uses:
    def record_use(self, model_id: str) -> None:
        raise NotImplementedError


@dataclass
class Bench:
    """A chain as the work of a session."""

    sessions: Sessions
    clock: SteeredTime
    files: FakePausedFiles = field(default_factory=FakePausedFiles)
    decided: list[object] = field(default_factory=list)

    def begin(
        self, runs: Runs, chain: PreparedChain | None = None, effort: Effort | None = None
    ) -> Session:
        self.turns = Turns(self.files)
        run = ChainRun(
            runs,
            None,  # type: ignore[arg-type]  # no picture comes
            Uses(),
            StepStatistics(TransientFacts(), self.clock.clock),
            lambda _session, said: self.decided.append(said),
        )
        chain = chain or PreparedChain(STEPS)
        plan = SessionPlan(
            SessionKind.POSTPROCESSING,
            "cpu:0",
            (),
            run.single(chain, Piece("", JOB), self.turns),
            stop=run.stop,
            pause=run.pause,
            ended=lambda session: self.turns.end(),
            placed=Placed(PlacementDecision.named("cpu:0"), effort),
        )
        request = SessionRequest(WorkOptions(), b"", unprepared)
        return self.sessions.open(plan, turn_of(plan, self.sessions), request)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = SteeredTime()
    made = registry(clock, 3)
    yield Bench(made, clock)
    await made.stop(0)


async def until(session: Session, state: SessionState) -> None:
    async with asyncio.timeout(30):
        while session.state is not state:
            await session.log.change().wait()


def begun(kept_steps: int = 0) -> PhaseStarted:
    return PhaseStarted(Phase.POSTPROCESSING, 0, kept_steps)


def tile(done: int) -> PieceFinished:
    return PieceFinished(0, Kind.TILE, done, 4)


def step(done: int) -> PieceFinished:
    return PieceFinished(0, Kind.STEP, done, 3)


async def test_a_turn_goes_on_where_the_one_before_it_paused(bench: Bench) -> None:
    runs = Runs(
        [begun(), step(1), begun(1), tile(1), Runs, PausedChain(1.0, 1.0, ChainKept(1, 1))],
        [begun(1), tile(2), step(2), step(3), REPORT],
    )
    session = bench.begin(runs)
    await runs.began.wait()
    assert session.progress == pytest.approx((1 + 1 / 4) / 3)
    bench.sessions.pause(session, "", "")
    await until(session, SessionState.PAUSED)
    assert session.done.kept_steps == 1
    bench.sessions.resume(session, "")
    await until(session, SessionState.COMPLETED)

    first, second = runs.jobs
    assert first == replace(JOB, paused_file=Path("1.paused"))
    assert second == replace(first, kept_steps=1, kept_tiles=1)
    end: Any = session.log.terminal
    assert end.timings[Phase.POSTPROCESSING] == 3.0
    assert end.timings[Phase.ENCODING_IMAGE] == 3.0


async def test_a_turn_that_no_worker_had_costs_nothing_that_was_kept(bench: Bench) -> None:
    runs = Runs(
        [begun(), step(1), step(2), Runs, PausedChain(0.0, 0.0, ChainKept(2))],
        [Runs, WorkPaused()],
        [begun(2), step(3), REPORT],
    )
    session = bench.begin(runs)
    for _ in range(2):
        await runs.began.wait()
        bench.sessions.pause(session, "", "")
        await until(session, SessionState.PAUSED)
        assert session.done.kept_steps == 2
        bench.sessions.resume(session, "")
    await until(session, SessionState.COMPLETED)
    assert [job.kept_steps for job in runs.jobs] == [0, 2, 2]  # type: ignore[attr-defined]


async def test_others_may_go_first_once_something_is_done_that_a_pause_keeps(
    bench: Bench,
) -> None:
    """Pieces of other steps than an upscaling are not kept, nor tiles that were too many."""
    lost = PausedChain(0.0, 0.0, ChainKept(1, lost_tiles=True))
    runs = Runs(
        [begun(), tile(1), Runs, step(1), Runs, PausedChain(0.0, 0.0, ChainKept(1))],
        [begun(1), tile(1), Runs, lost],
        [begun(1), tile(1), Runs, step(2), tile(1), step(3), REPORT],
    )
    session = bench.begin(runs)
    await runs.began.wait()
    assert session.slice_seconds is None
    runs.asked.set()
    while session.slice_seconds is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for sliced in (True, False):
        await runs.began.wait()
        bench.sessions.pause(session, "", "")
        await until(session, SessionState.PAUSED)
        bench.sessions.resume(session, "")
        await runs.began.wait()
        assert (session.slice_seconds is not None) is sliced
    runs.asked.set()
    await until(session, SessionState.COMPLETED)


async def test_a_picture_is_judged_once_and_pauses_after_that(bench: Bench) -> None:
    policy = SafetyPolicy("mine", 1)
    found = SafetyFindings((Findings((), ()),), 0.1)
    runs = Runs([Runs, found], [begun(), step(3), REPORT])
    session = bench.begin(runs, PreparedChain(STEPS, of_inputs=policy))
    await runs.began.wait()
    bench.sessions.pause(session, "", "")
    await until(session, SessionState.PAUSED)
    bench.sessions.resume(session, "")
    await until(session, SessionState.COMPLETED)
    assert [type(job) for job in runs.jobs] == [SafetyCheckJob, ChainJob]
    assert len(bench.decided) == 1


async def test_a_picture_that_is_not_worked_on_teaches_nothing_of_the_device(
    bench: Bench,
) -> None:
    rule = SafetyRule("nsfw", 0.5, SafetyAction.BLOCK, SafetySubject.INPUT_IMAGE)
    effort = Effort("", "sharpen", amounts={Phase.POSTPROCESSING: 4.0})
    found = SafetyFindings((Findings((CategoryScore("nsfw", 0.9, "opennsfw"),), ()),), 0.1)
    chain = PreparedChain(STEPS, of_inputs=SafetyPolicy("mine", 1, rules=(rule,)))
    session = bench.begin(Runs(found), chain, effort)
    await until(session, SessionState.COMPLETED)
    assert session.images[0].withheld
    assert bench.sessions.speeds.work_seconds("cpu:0", effort) is None
    session = bench.begin(Runs([begun(), step(3), REPORT]), effort=effort)
    await until(session, SessionState.COMPLETED)
    assert bench.sessions.speeds.work_seconds("cpu:0", effort) == REPORT.postprocess


async def test_nothing_is_kept_once_it_has_ended(bench: Bench) -> None:
    session = bench.begin(Runs(Unavailable("gone")))
    await until(session, SessionState.FAILED)
    assert bench.files.removed == [Path("1.paused")]
