"""When work will begin and end, from how long comparable work took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from domains.session.core.changes import SessionChanges
from domains.session.core.placed import Placed
from domains.session.core.places import Turn
from domains.session.core.plan import SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.speeds import Effort
from domains.session.jobs import WorkPaused
from domains.session.types import (
    Accepted,
    Phase,
    PhaseStarted,
    Priority,
    ProgressEvent,
    StepFinished,
    WorkOptions,
)
from domains.values import PlacementDecision
from server.errors import describe_failure
from tests.clocks import SteeredTime
from tests.domains.session.conftest import idle, picture, plan, unprepared
from tests.domains.session.test_queue import Device


def of_steps(sessions: Sessions, steps: float | None, turn: Turn = idle) -> Session:
    """A session of so many steps; None of work that is comparable with none."""
    effort = None if steps is None else Effort("model", amounts={Phase.DENOISING: steps})
    request = SessionRequest(WorkOptions(), b"", unprepared)
    placed = Placed(PlacementDecision.named("cpu:0"), effort)
    return sessions.open(replace(plan(), placed=placed), turn, request)


@pytest.fixture
def measured(roomy: Sessions) -> Sessions:
    """Where a step takes two seconds."""
    effort = Effort("model", amounts={Phase.DENOISING: 10})
    roomy.speeds.learn("cpu:0", effort, {Phase.DENOISING: 20.0})
    return roomy


async def test_nobody_knows_before_anything_was_measured(sessions: Sessions) -> None:
    session = of_steps(sessions, 10)
    assert session.estimated_start_time is not None  # now: nothing is before it
    assert session.estimated_end_time is None


async def test_each_begins_when_those_before_it_are_done(
    measured: Sessions, clock: SteeredTime
) -> None:
    device = Device()
    running = of_steps(measured, 5, device.work)
    await device.started.wait()
    clock.move(4)
    first, second, unknown, last = (of_steps(measured, n) for n in (10, 20, None, 1))

    now = clock.moment
    assert running.estimated_end_time == now + timedelta(seconds=6)
    assert first.estimated_start_time == now + timedelta(seconds=6)
    assert first.estimated_end_time == now + timedelta(seconds=26)
    assert second.estimated_start_time == now + timedelta(seconds=26)
    assert unknown.estimated_start_time == now + timedelta(seconds=66)
    assert unknown.estimated_end_time is None
    assert last.estimated_start_time is None
    accepted = first.log.entry(1).event
    assert isinstance(accepted, Accepted)
    assert accepted.estimated_end_time == now + timedelta(seconds=26)
    clock.move(100)  # later than was thought: now, and not in the past
    assert first.estimated_start_time == clock.moment
    device.release.set()


async def test_of_work_without_steps_what_it_told_lies_behind(
    roomy: Sessions, clock: SteeredTime
) -> None:
    effort = Effort("", amounts={Phase.POSTPROCESSING: 10})
    roomy.speeds.learn("cpu:0", effort, {Phase.POSTPROCESSING: 100.0})
    device = Device()
    chain = replace(plan(), seeds=(), steps=0, total_steps=0)
    placed = Placed(PlacementDecision.named("cpu:0"), effort)
    request = SessionRequest(WorkOptions(), b"", unprepared)
    running = roomy.open(replace(chain, placed=placed), device.work, request)
    await device.started.wait()
    running.record(PhaseStarted(Phase.POSTPROCESSING, 0))
    clock.move(40)
    running.done.reach(0.5)
    running.times.note_step()
    clock.move(10)
    waiting = roomy.open(replace(chain, placed=placed), idle, request)
    assert running.estimated_end_time == clock.moment + timedelta(seconds=40)
    assert waiting.estimated_start_time == clock.moment + timedelta(seconds=40)
    device.release.set()


async def test_no_end_is_expected_of_what_is_paused(measured: Sessions) -> None:
    device = Device()
    of_steps(measured, 10, device.work)
    await device.started.wait()
    waiting = of_steps(measured, 10, device.work)
    assert waiting.estimated_end_time is not None
    measured.pause(waiting, "", "")
    assert (waiting.estimated_start_time, waiting.estimated_end_time) == (None, None)
    device.release.set()


class Steps:
    """Work that tells what it is told to tell."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.began = asyncio.Event()
        self.error: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work(self, session: Session) -> None:
        session.start(lambda: None, lambda: None)
        self.session = session
        self.began.set()
        await self.error

    def tell(self, *events: ProgressEvent) -> None:
        assert self.session is not None
        for event in events:
            self.session.record(event)


async def begun(steps: Steps) -> Session:
    async with asyncio.timeout(30):
        await steps.began.wait()
    assert steps.session is not None
    return steps.session


def drawing(
    sessions: Sessions,
    turn: Turn,
    *,
    steps: int = 10,
    owner: str = "a",
    priority: Priority = Priority.NORMAL,
    model: str = "model",
) -> Session:
    """A picture of so many steps: a second for the text, two a step, four in the end."""
    amounts = {Phase.ENCODING_TEXT: 1.0, Phase.DENOISING: steps, Phase.DECODING: 1.0}
    made = replace(
        plan(),
        placed=Placed(PlacementDecision.named("cpu:0"), Effort(model, amounts=amounts)),
        seeds=(1,),
        steps=steps,
        total_steps=steps,
        pause=lambda session: None,
    )
    request = SessionRequest(WorkOptions(priority=priority), b"", unprepared, owner)
    return sessions.open(made, turn, request)


HELD: set[str] = set()
_SECONDS = {
    Phase.LOADING_MODEL: 50.0,
    Phase.ENCODING_TEXT: 1.0,
    Phase.DENOISING: 20.0,
    Phase.DECODING: 4.0,
}


@pytest.fixture
async def drawn(clock: SteeredTime) -> AsyncIterator[Sessions]:
    """Where the time of such pictures is known; slices are of ten seconds."""
    HELD.clear()
    HELD.add("model")
    made = Sessions(
        describe=describe_failure,
        queue_length=30,
        slice_seconds=10.0,
        retention=timedelta(seconds=60),
        kept=5,
        changes=SessionChanges(clock.clock, heartbeat_seconds=0.05, gone_kept=5),
        clock=clock.clock,
        holds=lambda device_id, model_id: model_id in HELD,
    )
    amounts = {Phase.ENCODING_TEXT: 1.0, Phase.DENOISING: 10.0, Phase.DECODING: 1.0}
    for model in ("model", "other"):
        made.speeds.learn("cpu:0", Effort(model, amounts=amounts), _SECONDS)
    yield made
    await made.stop(0)


def ends(clock: SteeredTime, *sessions: Session) -> list[float | None]:
    """In how many seconds each is expected to end."""
    found = [session.estimated_end_time for session in sessions]
    return [each and (each - clock.moment).total_seconds() for each in found]


def begins(clock: SteeredTime, *sessions: Session) -> list[float | None]:
    found = [session.estimated_start_time for session in sessions]
    return [each and (each - clock.moment).total_seconds() for each in found]


async def test_what_a_turn_has_behind_it_is_not_what_it_has_worked(
    drawn: Sessions, clock: SteeredTime
) -> None:
    """A model that takes long to load is no step that is done."""
    HELD.clear()
    work = Steps()
    session = drawing(drawn, work.work)
    assert ends(clock, session) == [75.0]
    await begun(work)
    queue = drawn.queue("cpu:0")
    work.tell(PhaseStarted(Phase.LOADING_MODEL))
    clock.move(20)
    queue.reorder()
    assert ends(clock, session) == [55.0]
    clock.move(200)
    queue.reorder()
    assert ends(clock, session) == [25.0]
    HELD.add("model")
    work.tell(PhaseStarted(Phase.ENCODING_TEXT))
    queue.reorder()
    assert ends(clock, session) == [25.0]
    work.tell(PhaseStarted(Phase.DENOISING, 0), *(StepFinished(0, n, 10) for n in (1, 2, 3)))
    queue.reorder()
    assert ends(clock, session) == [18.0]
    clock.move(1)
    queue.reorder()
    assert ends(clock, session) == [17.0]
    work.tell(*(StepFinished(0, n, 10) for n in range(4, 11)), PhaseStarted(Phase.DECODING, 0))
    queue.reorder()
    assert ends(clock, session) == [4.0]


@pytest.mark.parametrize(
    ("kept", "held", "left"), [(4, True, 1 + 12 + 4), (0, True, 25), (4, False, 50 + 17)]
)
async def test_what_was_not_kept_lies_ahead_again(
    drawn: Sessions, clock: SteeredTime, kept: int, held: bool, left: float
) -> None:
    """And what every turn begins with: the text, and the model where it had to leave."""
    work = Steps()
    session = drawing(drawn, work.work, priority=Priority.LOW)
    await begun(work)
    work.tell(PhaseStarted(Phase.DENOISING, 0), *(StepFinished(0, n, 10) for n in (1, 2, 3, 4)))
    clock.move(300)  # whatever it took
    device = Device()
    urgent = drawing(drawn, device.work, owner="b", priority=Priority.HIGH)
    assert session.yielding is not None
    if not held:
        HELD.clear()
    work.error.set_exception(WorkPaused(kept))
    await device.started.wait()
    drawn.queue("cpu:0").reorder()

    before = 25.0 if held else 75.0
    assert ends(clock, urgent) == [before]
    assert session.queue_position == 1
    assert begins(clock, session) == [before]
    left -= 0.0 if held else 50.0  # the urgent one loads it
    assert ends(clock, session) == [before + left]
    assert session.progress == kept / 10
    device.release.set()


async def test_other_clients_begin_once_a_slice_is_over(
    drawn: Sessions, clock: SteeredTime
) -> None:
    work = Steps()
    running = drawing(drawn, work.work, steps=18)  # 41 seconds
    await begun(work)
    other = drawing(drawn, idle, owner="b")
    own = drawing(drawn, idle)
    work.tell(PhaseStarted(Phase.DENOISING, 0), StepFinished(0, 1, 18))
    drawn.queue("cpu:0").reorder()

    # Of the first 38 are left: a|10  b|1+10  a|1+10  b|1+10  a|1+10  b|1+4  a|1+8  own
    assert begins(clock, other, own) == [10.0, 10 + 5 * 11 - 6 + 9]
    assert ends(clock, running, other) == [68.0, 10 + 4 * 11 + 5]
    assert [each.queue_position for each in (running, other, own)] == [0, 1, 2]
    clock.move(4)
    drawn.queue("cpu:0").reorder()
    assert begins(clock, other) == [6.0]


async def test_one_client_alone_waits_for_the_end(drawn: Sessions, clock: SteeredTime) -> None:
    work = Steps()
    drawing(drawn, work.work)
    await begun(work)
    work.tell(PhaseStarted(Phase.DENOISING, 0))
    own = drawing(drawn, idle)
    less = drawing(drawn, idle, owner="b", priority=Priority.LOW)
    assert begins(clock, own, less) == [24.0, 49.0]


async def test_a_model_is_loaded_once_for_all_who_wait_with_it(
    drawn: Sessions, clock: SteeredTime
) -> None:
    work = Steps()
    drawing(drawn, work.work)
    await begun(work)
    work.tell(PhaseStarted(Phase.DENOISING, 0))
    first, second = (drawing(drawn, idle, model="other") for _ in range(2))
    assert ends(clock, first, second) == [24.0 + 75.0, 24.0 + 75.0 + 25.0]


async def test_what_is_to_pause_is_waited_for_no_longer(
    drawn: Sessions, clock: SteeredTime
) -> None:
    work = Steps()
    running = drawing(drawn, work.work)
    await begun(work)
    waiting = drawing(drawn, idle)
    drawn.pause(running, "", "")
    assert begins(clock, waiting) == [0.0]
    assert ends(clock, running) == [None]


async def test_long_work_is_foreseen_without_counting_every_slice(
    drawn: Sessions, clock: SteeredTime
) -> None:
    """A hundred thousand slices lie ahead, and this is asked twice a second."""
    work = Steps()
    drawing(drawn, work.work)
    await begun(work)
    work.tell(PhaseStarted(Phase.DENOISING, 0))
    long = [drawing(drawn, idle, steps=50_000, owner=owner) for owner in "bcdefghijkl"]
    began = time.thread_time()  # others' work on a busy machine is not in it
    drawn.queue("cpu:0").reorder()
    assert time.thread_time() - began < 0.05
    whole = 100_000 + 4 + 10_000 + 1.0  # each begins so many turns with its text
    last = max(each for each in ends(clock, *long) if each is not None)
    assert last == pytest.approx(24 + 11 * whole, rel=1e-3)


async def test_of_a_batch_one_items_texts_are_encoded_again(
    drawn: Sessions, clock: SteeredTime
) -> None:
    amounts = {Phase.ENCODING_TEXT: 3.0, Phase.DENOISING: 30, Phase.DECODING: 3.0}
    work = Steps()
    made = replace(
        plan(),
        placed=Placed(PlacementDecision.named("cpu:0"), Effort("model", amounts=amounts)),
        seeds=(1, 2, 3),
        steps=10,
        total_steps=30,
        pause=lambda session: None,
    )
    request = SessionRequest(WorkOptions(priority=Priority.LOW), b"", unprepared, "a")
    session = drawn.open(made, work.work, request)
    assert ends(clock, session) == [3 * 25.0]
    await begun(work)
    work.tell(*(StepFinished(2, n, 10) for n in range(1, 11)))  # of one that failed in the end
    work.tell(*(StepFinished(0, n, 10) for n in range(1, 11)))
    session.finish_image(picture(0))
    work.tell(PhaseStarted(Phase.DENOISING, 1), *(StepFinished(1, n, 10) for n in (1, 2, 3)))
    device = Device()
    urgent = drawing(drawn, device.work, owner="b", priority=Priority.HIGH)
    work.error.set_exception(WorkPaused(3))
    await device.started.wait()
    drawn.queue("cpu:0").reorder()

    assert ends(clock, urgent) == [25.0]
    # A text again, those of two items, 17 steps, two pictures in the end.
    left = 1 + 2 * (2 / 3) + 17 * 2 + 2 * 4
    assert ends(clock, session) == [pytest.approx(25.0 + left, abs=1e-3)]
    device.release.set()
