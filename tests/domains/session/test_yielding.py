"""A session that runs lets more urgent work and other clients' work go first, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from domains.errors import Reason, Unavailable
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.times import Spell
from domains.session.errors import QueueFull
from domains.session.jobs import WorkPaused
from domains.session.turns import Yielded, YieldReason
from domains.session.types import (
    Completed,
    Outcome,
    Phase,
    Priority,
    SessionEvent,
    SessionState,
    StepFinished,
    WorkOptions,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import asked, collect, submit, until_started
from tests.domains.session.test_queue import Device
from tests.domains.sessions import until_final

LOW, NORMAL, HIGH = (
    WorkOptions(priority=each) for each in (Priority.LOW, Priority.NORMAL, Priority.HIGH)
)
SLICE = 30.0  # of the registry's queues


class Drawing:
    """Work of steps that a test lets go one by one, which can pause after each but the last."""

    def __init__(self, steps: int = 10) -> None:
        self.steps, self.done = steps, 0
        self.turns = 0
        self.asked = 0
        self.error: Exception | None = None
        self.began = asyncio.Condition()
        self._go = asyncio.Semaphore(0)
        self._wish = False

    async def __call__(self, session: Session) -> Outcome:
        self._wish = False
        self.turns += 1
        async with self.began:
            self.began.notify_all()
        while self.done < self.steps:
            await self._go.acquire()
            if self.error is not None:
                raise self.error
            self.done += 1
            session.record(StepFinished(0, self.done, self.steps))
            if self._wish and self.done < self.steps:
                raise WorkPaused(self.done)
        return Outcome(timings={Phase.DENOISING: float(self.done)})

    def pause(self, session: Session) -> None:
        self.asked += 1
        self._wish = True

    def stop(self, session: Session) -> None:
        self.error = WorkPaused(self.done)
        self._go.release()

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self._go.release()


class Stand:
    """Calls that run drawings, each a client's."""

    def __init__(self, sessions: Sessions, runner: SessionRunner) -> None:
        self.sessions, self._runner = sessions, runner
        self.calls: dict[str, asyncio.Task[list[SessionEvent]]] = {}

    async def draw(
        self, work: Drawing, options: WorkOptions = NORMAL, owner: str = "a"
    ) -> Session:
        """A session, submitted."""
        before = {session.session_id for session in self.sessions.all()}
        request = asked(work, options, pause=work.pause, stop=work.stop, owner=owner)
        call = asyncio.create_task(collect(self._runner.run(request)))
        async with asyncio.timeout(30):
            while True:
                for session in self.sessions.all():
                    if session.session_id not in before:
                        self.calls[session.session_id] = call
                        return session
                await asyncio.sleep(0)

    async def events(self, session: Session) -> list[object]:
        return [event.event for event in await self.calls[session.session_id]]


@pytest.fixture
async def stand(roomy: Sessions, reader: SessionReader) -> AsyncIterator[Stand]:
    made = Stand(roomy, SessionRunner(roomy, reader))
    yield made
    for call in made.calls.values():
        call.cancel()
    await asyncio.gather(*made.calls.values(), return_exceptions=True)


async def until(session: Session, state: SessionState) -> None:
    async with asyncio.timeout(30):
        while session.state is not state:
            await session.log.change().wait()


async def running(stand: Stand, work: Drawing, options: WorkOptions, owner: str) -> Session:
    session = await stand.draw(work, options, owner)
    await until_started(session)
    return session


async def stepped(session: Session, work: Drawing, count: int = 1) -> None:
    """Its work has made so many more steps."""
    target = work.done + count
    work.step(count)
    async with asyncio.timeout(30):
        while work.done < target:
            await session.log.change().wait()


async def begun(work: Drawing, turns: int) -> None:
    async with asyncio.timeout(30), work.began:
        await work.began.wait_for(lambda: work.turns >= turns)


def yields(session: Session) -> list[Yielded]:
    return [entry for entry in session.log.entries() if isinstance(entry, Yielded)]


async def test_a_higher_priority_goes_first_after_one_step(stand: Stand) -> None:
    long, urgent = Drawing(4), Drawing(1)
    low = await running(stand, long, LOW, "a")
    await stepped(low, long)
    high = await stand.draw(urgent, HIGH, "b")
    assert low.state is SessionState.RUNNING
    assert low.yielding is YieldReason.HIGHER_PRIORITY
    assert high.queue_position == 0  # nothing is before it but the end of a step

    long.step()
    await until_started(high)
    assert (low.state, low.phase) == (SessionState.QUEUED, Phase.QUEUED)
    assert low.queue_position == 1
    assert yields(low) == [Yielded(YieldReason.HIGHER_PRIORITY, 2, 1)]
    assert [stand.sessions.queue("cpu:0").running, long.done] == [high, 2]

    urgent.step()
    await until_final(high)
    await until_started(low)
    long.step(2)
    events = await stand.events(low)
    assert isinstance(events[-1], Completed)
    steps = [event.step for event in events if isinstance(event, StepFinished)]
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("how", ["raised", "resumed"])
async def test_a_session_that_becomes_more_urgent_goes_first(stand: Stand, how: str) -> None:
    long = Drawing()
    low = await running(stand, long, LOW, "a")
    other = await stand.draw(Drawing(), LOW if how == "raised" else HIGH, "b")
    if how == "raised":
        assert long.asked == 0
        stand.sessions.update(other, replace(other.options, priority=Priority.NORMAL))
    else:
        stand.sessions.pause(other, "", "")  # it waited: `low` had been asked already
        await stepped(low, long)
        await begun(long, 2)
        assert yields(low) == [Yielded(YieldReason.HIGHER_PRIORITY, 1, 0)]
        stand.sessions.resume(other, "")
    assert low.yielding is YieldReason.HIGHER_PRIORITY
    long.step()
    await until_started(other)


async def test_equals_of_another_client_wait_for_the_end_of_the_slice(
    stand: Stand, clock: SteeredTime
) -> None:
    first, second = Drawing(), Drawing()
    one = await running(stand, first, NORMAL, "a")
    two = await stand.draw(second, NORMAL, "b")
    queue = stand.sessions.queue("cpu:0")
    clock.move(10 * SLICE)  # of loading: nothing is done yet
    queue.expire()
    assert first.asked == 0
    await stepped(one, first)
    clock.move(SLICE - 1)
    queue.expire()
    assert first.asked == 0
    clock.move(1)
    queue.expire()
    assert one.yielding is YieldReason.TIME_SLICE
    first.step()
    await until_started(two)
    assert yields(one) == [Yielded(YieldReason.TIME_SLICE, 2, 1)]

    # And so on in turns, each at least a slice long.
    await stepped(two, second)
    queue.expire()
    assert second.asked == 0
    clock.move(SLICE)
    queue.expire()
    second.step()
    await until_started(one)
    assert yields(two) == [Yielded(YieldReason.TIME_SLICE, 2, 1)]


async def test_one_clients_sessions_come_one_after_another(
    stand: Stand, clock: SteeredTime
) -> None:
    work = Drawing()
    one = await running(stand, work, NORMAL, "a")
    await stand.draw(Drawing(), NORMAL, "a")
    await stand.draw(Drawing(), LOW, "b")  # nor does less urgent work come before its time
    await stepped(one, work)
    clock.move(10 * SLICE)
    stand.sessions.queue("cpu:0").expire()
    assert work.asked == 0


async def test_a_flood_of_one_clients_long_work_starves_nobody(
    stand: Stand, clock: SteeredTime
) -> None:
    flood = [Drawing() for _ in range(5)]
    first = await running(stand, flood[0], NORMAL, "a")
    for work in flood[1:]:
        await stand.draw(work, NORMAL, "a")
    short = Drawing(1)
    other = await stand.draw(short, NORMAL, "b")
    await stepped(first, flood[0])
    clock.move(SLICE)
    stand.sessions.queue("cpu:0").expire()
    flood[0].step()
    await until_started(other)
    short.step()
    await until_final(other)
    await begun(flood[0], 2)
    assert [work.turns for work in flood] == [2, 0, 0, 0, 0]


async def test_an_interrupted_session_goes_on_before_its_equals_with_what_is_left_of_its_slice(
    stand: Stand, clock: SteeredTime
) -> None:
    work, urgent = Drawing(), Drawing(1)
    low = await running(stand, work, LOW, "a")
    other = await stand.draw(Drawing(), LOW, "c")
    await stepped(low, work)
    clock.move(SLICE - 10)
    high = await stand.draw(urgent, HIGH, "b")
    work.step()
    await until_started(high)
    urgent.step()
    await until_final(high)
    await until_started(low)
    assert other.state is SessionState.QUEUED
    await stepped(low, work)
    clock.move(9)
    stand.sessions.queue("cpu:0").expire()
    assert low.yielding is None
    clock.move(1)
    stand.sessions.queue("cpu:0").expire()
    work.step()
    await until_started(other)
    assert [each.reason for each in yields(low)] == [
        YieldReason.HIGHER_PRIORITY,
        YieldReason.TIME_SLICE,
    ]


async def test_who_has_waited_too_long_works_a_slice_whatever_comes(
    stand: Stand, clock: SteeredTime
) -> None:
    device, work = Device(), Drawing()
    submit(stand.sessions, device.work, HIGH, owner="b")
    await device.started.wait()
    low = await stand.draw(work, LOW, "a")
    clock.move(600)
    device.release.set()
    await until_started(low)
    high = await stand.draw(Drawing(), HIGH, "b")
    assert work.asked == 0
    await stepped(low, work)
    clock.move(SLICE)
    stand.sessions.queue("cpu:0").expire()
    assert low.yielding is YieldReason.HIGHER_PRIORITY
    work.step()
    await until_started(high)
    assert low.queue_position == 1  # that was its turn: it has waited for nothing since


async def test_turns_without_a_step_are_none_that_served(
    stand: Stand, clock: SteeredTime
) -> None:
    """Urgent work that comes again and again while a model loads does not starve the rest."""
    work = Drawing()
    low = await stand.draw(work, LOW, "a")
    await until_started(low)
    for _ in range(2):
        urgent = Drawing(1)
        high = await stand.draw(urgent, HIGH, "b")
        work.error = WorkPaused()  # at its model, before any step
        work.step()
        await until_started(high)
        work.error = None
        clock.move(301)
        urgent.step()
        await until_final(high)
        await until_started(low)
    assert low.waited_seconds >= 600
    await stand.draw(Drawing(), HIGH, "b")
    assert low.yielding is None


async def test_a_yield_is_never_refused_for_want_of_room(
    sessions: Sessions, reader: SessionReader
) -> None:
    """The queue of these tests has three places."""
    stand, device, work = Stand(sessions, SessionRunner(sessions, reader)), Device(), Drawing(2)
    low = await running(stand, work, LOW, "a")
    waiting = [submit(sessions, device.work, LOW, owner="a") for _ in range(2)]
    high = submit(sessions, device.work, HIGH, owner="a")
    work.step()
    await until_started(high)
    assert low.state is SessionState.QUEUED
    assert sessions.queue("cpu:0").depth == 3
    with pytest.raises(QueueFull):
        submit(sessions, device.work, LOW, owner="a")
    device.release.set()
    await until_started(low)
    work.step()
    for session in (low, high, *waiting):
        await until_final(session)
    assert len([submit(sessions, Device().work) for _ in range(3)]) == 3


async def test_time_is_counted_by_what_it_went_into(stand: Stand, clock: SteeredTime) -> None:
    work, urgent = Drawing(2), Drawing(1)
    options = replace(LOW, queue_timeout_seconds=5, run_timeout_seconds=60)
    low = await running(stand, work, options, "a")
    clock.move(20)
    high = await stand.draw(urgent, HIGH, "b")
    work.step()
    await until_started(high)
    clock.move(1_000)  # neither the time to wait for a first turn nor the time to run
    stand.sessions.queue("cpu:0").expire()
    assert low.state is SessionState.QUEUED
    assert low.run_left() == 40.0
    urgent.step()
    await until_started(low)
    clock.move(3)
    work.step()
    end = (await stand.events(low))[-1]
    assert isinstance(end, Completed)
    assert (low.times.spent(Spell.RUNNING), low.waited_seconds) == (23.0, 1_000.0)
    assert (end.timings[Phase.QUEUED], end.pause_seconds) == (1_000.0, 0.0)
    assert end.total_seconds == 1_023.0


@pytest.mark.parametrize("what", ["cancel", "pause", "finish", "fail", "disconnect"])
async def test_what_comes_while_it_is_to_yield(stand: Stand, what: str) -> None:
    work = Drawing(2 if what == "finish" else 10)
    low = await running(stand, work, LOW, "a")
    await stepped(low, work)
    high = await stand.draw(Drawing(), HIGH, "b")
    if what == "cancel":
        low.request_cancel(Reason.CANCELLED_BY_CLIENT)
        expected = SessionState.CANCELLED
    elif what == "disconnect":
        stand.calls[low.session_id].cancel()
        expected = SessionState.CANCELLED
    elif what == "pause":
        stand.sessions.pause(low, "", "")
        assert low.state is SessionState.PAUSING
        expected = SessionState.PAUSED
    elif what == "finish":
        expected = SessionState.COMPLETED
    else:
        work.error = Unavailable("The worker is gone.", reason=Reason.WORKER_LOST)
        expected = SessionState.FAILED
    work.step()
    await until(low, expected)
    await until_started(high)
    assert (low.yielding, yields(low)) == (None, [])
    if what == "pause":
        stand.sessions.resume(low, "")
        assert low.state is SessionState.QUEUED


@pytest.mark.parametrize("what", ["cancel", "pause", "disconnect", "stop"])
async def test_what_comes_while_it_waits_after_a_yield(stand: Stand, what: str) -> None:
    work, urgent = Drawing(), Drawing(1)
    low = await running(stand, work, LOW, "a")
    high = await stand.draw(urgent, HIGH, "b")
    work.step()
    await until_started(high)
    expected = SessionState.CANCELLED
    if what == "cancel":
        low.request_cancel(Reason.CANCELLED_BY_CLIENT)
    elif what == "disconnect":
        stand.calls[low.session_id].cancel()
    elif what == "stop":
        stopping = asyncio.create_task(stand.sessions.stop(30))
    else:
        stand.sessions.pause(low, "", "")
        expected = SessionState.PAUSED
    await until(low, expected)
    urgent.step()
    await until_final(high)
    assert high.state is SessionState.COMPLETED
    if what == "stop":
        await stopping
    if what == "pause":
        assert stand.sessions.queue("cpu:0").running is None
        stand.sessions.resume(low, "")
        await until_started(low)
    else:
        assert work.turns == 1


async def test_a_wish_that_comes_before_the_work_begins_is_heard(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the work could hear it."""
    work, device = Drawing(), Device()
    opened: list[Session] = []
    start = Session.start

    def start_and_be_overtaken(session: Session, *asking: Callable[[], object]) -> None:
        start(session, *asking)
        if not opened:
            opened.append(submit(stand.sessions, device.work, HIGH, owner="b"))

    monkeypatch.setattr(Session, "start", start_and_be_overtaken)
    low = await stand.draw(work, LOW, "a")
    await device.started.wait()
    assert (work.asked, work.turns, low.state) == (1, 0, SessionState.QUEUED)
    device.release.set()
    await begun(work, 1)


async def test_placement_counts_what_would_yield_as_behind(stand: Stand) -> None:
    low = await running(stand, Drawing(), LOW, "a")
    queue = stand.sessions.queue("cpu:0")
    assert queue.before(Priority.LOW) == [low]
    assert queue.before(Priority.HIGH) == []
