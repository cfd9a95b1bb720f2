"""Whatever clients do in whatever order, every session has its turns and all of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.clock import Clock
from domains.processing.core.control import SessionControl
from domains.processing.errors import StateConflict
from domains.session.core.changes import SessionChanges
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.errors import QueueFull
from domains.session.types import (
    Priority,
    SessionEvent,
    SessionState,
    StepFinished,
    WorkOptions,
)
from domains.session.views import EVERYONE, Viewer
from tests.clocks import SteeredTime
from tests.domains.session.conftest import asked, collect, registry, submit
from tests.domains.session.test_yielding import SLICE, Drawing
from tests.domains.sessions import Artifacts

QUEUED, RUNNING = SessionState.QUEUED, SessionState.RUNNING
PAUSING, PAUSED = SessionState.PAUSING, SessionState.PAUSED
CANCELLING = SessionState.CANCELLING
ENDS = {SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED}
NEXT: Mapping[SessionState, Collection[SessionState]] = {
    QUEUED: {RUNNING, PAUSED, SessionState.CANCELLED},
    RUNNING: {QUEUED, PAUSING, CANCELLING, *ENDS},
    PAUSING: {PAUSED, CANCELLING, *ENDS},
    PAUSED: {QUEUED, SessionState.CANCELLED},
    CANCELLING: ENDS,
    **{end: set() for end in ENDS},
}
PLACES, LONGEST = 4, 5


class Watched(SessionChanges):
    """Changes of which a test sees each."""

    def __init__(self, clock: Clock, watch: Callable[[Session], None]) -> None:
        super().__init__(clock, heartbeat_seconds=1e6, gone_kept=1)
        self._watch = watch

    def note(self, session: Session) -> None:
        self._watch(session)
        super().note(session)


class Play:
    """Sessions of three clients on one device, and what is done to them."""

    def __init__(self, watch: Callable[[Session], None]) -> None:
        self.time = SteeredTime()
        self.sessions = registry(self.time, PLACES, kept=1_000)
        self.control = SessionControl(self.sessions)
        reader = SessionReader(Artifacts(), heartbeat_seconds=1e6, clock=self.time.clock)
        self.runner = SessionRunner(self.sessions, reader)
        self.works: dict[str, Drawing] = {}
        self.calls: list[asyncio.Task[list[SessionEvent]]] = []
        self.sessions.changes = Watched(self.time.clock, watch)

    async def submit(self, priority: Priority, owner: str, steps: int) -> None:
        work = Drawing(steps)
        options = WorkOptions(priority=priority)
        request = asked(work, options, pause=work.pause, stop=work.stop, owner=owner)
        known = set(self.sessions.all())
        self.calls.append(asyncio.create_task(collect(self.runner.run(request))))
        await settle()
        for session in set(self.sessions.all()) - known:
            self.works[session.session_id] = work

    def any_of(self, number: int) -> Session | None:
        found = self.sessions.all()
        return found[number % len(found)] if found else None

    async def step(self) -> None:
        running = self.sessions.queue("cpu:0").running
        if running is not None:
            self.works[running.session_id].step()
        await settle()

    async def do(self, what: str, number: int, priority: Priority, owner: str) -> None:
        if what == "submit":
            await self.submit(priority, owner, 2 + number % LONGEST)
        elif what == "step":
            await self.step()
        elif what == "time":
            self.time.move(number)
            await self.sessions.sweep()
        elif (session := self.any_of(number)) is not None:
            acts: Mapping[str, Callable[[str, Viewer], object]] = {
                "pause": self.control.pause,
                "resume": self.control.resume,
                "cancel": self.control.cancel,
                "raise": partial(
                    self.control.update,
                    options=replace(session.options, priority=priority),
                    update_fields=["priority"],
                ),
            }
            with suppress(StateConflict):
                acts[what](session.session_id, EVERYONE)
        await settle()

    def check(self) -> None:
        """Nobody who waits is more urgent than what runs and was not asked to yield."""
        queue = self.sessions.queue("cpu:0")
        at_work = [s for s in self.sessions.all() if s.state in (RUNNING, PAUSING, CANCELLING)]
        assert at_work == ([] if queue.running is None else [queue.running])
        queue.expire()  # as a sweep does; a cancelled session's place is given back then
        waiting = queue.waiting()
        assert at_work or not waiting
        if at_work and at_work[0].state is RUNNING and at_work[0].yielding is None:
            own = at_work[0].options.priority.value
            assert all(own <= session.options.priority.value for session in waiting)
        assert [s.queue_position for s in waiting] == sorted(s.queue_position for s in waiting)

    async def finish(self) -> None:
        for _ in range(1_000):
            for session in self.sessions.all():
                if session.state is PAUSED:
                    self.sessions.resume(session, "")
            if all(session.state.final for session in self.sessions.all()):
                return
            self.time.move(SLICE / 2)
            await self.sessions.sweep()
            await self.step()
        raise AssertionError("somebody waits for ever")


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "submit",
                "submit",
                "step",
                "step",
                "step",
                "time",
                "pause",
                "resume",
                "cancel",
                "raise",
            ]
        ),
        st.integers(0, 40),
        st.sampled_from(list(Priority)),
        st.sampled_from("abc"),
    ),
    min_size=20,
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS)
def test_every_session_ends_with_each_of_its_steps_once(
    operations: list[tuple[str, int, Priority, str]],
) -> None:
    asyncio.run(_play(operations))


async def _play(operations: list[tuple[str, int, Priority, str]]) -> None:
    states: dict[Session, SessionState] = {}

    def watch(session: Session) -> None:
        before = states.get(session, QUEUED)
        allowed = {before, *NEXT[before]}
        assert session.state in allowed, f"{before} to {session.state}"
        states[session] = session.state

    play = Play(watch)
    for operation in operations:
        await play.do(*operation)
        play.check()
    await play.finish()
    for session in play.sessions.all():
        steps = [e.step for e in session.log.entries() if isinstance(e, StepFinished)]
        work = play.works[session.session_id]
        whole = list(range(1, work.steps + 1))
        done = session.state is SessionState.COMPLETED
        assert steps == (whole if done else whole[: len(steps)])
        assert done or session.cancel_reason is not None
        assert session.state is states[session]
    await asyncio.gather(*play.calls, return_exceptions=True)
    submit(play.sessions, _waits, owner="d")
    await settle()
    for _ in range(PLACES):  # every place was given back
        submit(play.sessions, _waits, owner="d")
    with pytest.raises(QueueFull):
        submit(play.sessions, _waits, owner="d")
    await play.sessions.stop(0)


async def _waits(session: Session) -> None:
    session.start(lambda: None)
    await asyncio.Event().wait()
