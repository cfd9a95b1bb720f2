"""Pausing and resuming: at once while a session waits, between two steps while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from domains.errors import Reason
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.times import Spell
from domains.session.errors import QueueFull, SessionCancelled, SessionFailed
from domains.session.jobs import WorkPaused
from domains.session.turns import Paused, Resumed
from domains.session.types import (
    Completed,
    Phase,
    Priority,
    SessionEvent,
    SessionState,
    WorkOptions,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import asked, collect, submit, until_started
from tests.domains.session.test_queue import Device
from tests.domains.sessions import until_final


class Steps:
    """Work of steps that a test lets go one by one, and that can be paused between two."""

    def __init__(self, steps: int = 2) -> None:
        self.left = steps
        self.done = asyncio.Semaphore(0)
        self.begun = 0
        self.began = asyncio.Event()
        self._wish = False

    async def __call__(self, session: Session) -> None:
        self.begun += 1
        self.began.set()
        while self.left:
            await self.done.acquire()
            self.left -= 1
            if self._wish and self.left:
                self._wish = False
                raise WorkPaused

    def pause(self, session: Session) -> None:
        self._wish = True


async def run(
    runner: SessionRunner, work: Steps, options: WorkOptions | None = None
) -> asyncio.Task[list[SessionEvent]]:
    """The work, begun."""
    request = asked(work, options, pause=work.pause)
    task = asyncio.create_task(collect(runner.run(request)))
    await work.began.wait()
    return task


async def until(session: Session, state: SessionState) -> None:
    async with asyncio.timeout(30):
        while session.state is not state:
            await session.log.change().wait()


async def test_running_work_pauses_after_its_step_and_goes_on_from_there(
    runner: SessionRunner, sessions: Sessions, clock: SteeredTime
) -> None:
    work = Steps()
    call = await run(runner, work)
    (session,) = sessions.all()
    clock.move(3)
    sessions.pause(session, "lunch", "mary")
    assert session.state is SessionState.PAUSING
    work.done.release()
    await until(session, SessionState.PAUSED)
    assert sessions.queue("cpu:0").running is None
    clock.move(100)
    sessions.resume(session, "john")
    await until_started(session)
    clock.move(2)
    work.done.release()

    events = [event.event for event in await call]

    assert work.begun == 2
    assert [e for e in events if isinstance(e, Paused | Resumed)] == [
        Paused("lunch", "mary"),
        Resumed("john"),
    ]
    end = events[-1]
    assert isinstance(end, Completed)
    assert end.pause_seconds == 100.0
    assert end.total_seconds == 105.0
    assert end.timings[Phase.QUEUED] == 0.0
    assert session.times.spent(Spell.RUNNING) == 5.0


async def test_a_pause_is_no_part_of_the_time_to_run(
    runner: SessionRunner, sessions: Sessions, clock: SteeredTime
) -> None:
    work = Steps()
    call = await run(runner, work, WorkOptions(run_timeout_seconds=60))
    (session,) = sessions.all()
    clock.move(20)
    sessions.pause(session, "", "")
    work.done.release()
    await until(session, SessionState.PAUSED)
    clock.move(10_000)
    assert session.run_left() == 40.0
    sessions.resume(session, "")
    await until_started(session)
    work.done.release()
    await call


async def test_the_device_works_for_others_meanwhile(
    runner: SessionRunner, sessions: Sessions
) -> None:
    work, device = Steps(), Device()
    call = await run(runner, work)
    (session,) = sessions.all()
    other = submit(sessions, device.work)
    sessions.pause(session, "", "")
    work.done.release()
    await device.started.wait()

    sessions.resume(session, "")
    assert session.state is SessionState.QUEUED
    assert session.queue_position == 1
    device.release.set()
    await until_final(other)
    work.done.release()
    await call


async def test_a_waiting_session_pauses_at_once_and_keeps_its_place(
    sessions: Sessions, clock: SteeredTime
) -> None:
    device = Device()
    submit(sessions, device.work)
    await device.started.wait()
    paused = submit(sessions, device.work, WorkOptions(queue_timeout_seconds=10))
    later = submit(sessions, device.work)
    sessions.pause(paused, "", "")
    assert paused.state is SessionState.PAUSED
    assert later.queue_position == 1
    assert sessions.queue("cpu:0").depth == 1

    clock.move(60)  # a pause is no wait
    sessions.queue("cpu:0").expire()
    sessions.resume(paused, "")

    assert [paused.queue_position, later.queue_position] == [1, 2]
    device.release.set()
    await until_final(later)
    assert device.order[1:] == [paused.session_id, later.session_id]


async def test_the_only_waiting_session_runs_once_it_is_resumed(sessions: Sessions) -> None:
    device = Device()
    device.release.set()
    session = submit(sessions, device.work)
    sessions.pause(session, "", "")
    await asyncio.sleep(0)
    assert not device.order
    sessions.resume(session, "")
    await until_final(session)


async def test_paused_sessions_hold_their_places(sessions: Sessions) -> None:
    """Otherwise pausing would be a way to have any number of them."""
    device = Device()
    submit(sessions, device.work)
    await device.started.wait()
    for _ in range(3):
        sessions.pause(submit(sessions, device.work), "", "")

    with pytest.raises(QueueFull):
        submit(sessions, device.work)
    device.release.set()


@pytest.mark.parametrize("when", ["paused", "pausing"])
async def test_a_cancellation_ends_a_pause(
    runner: SessionRunner, sessions: Sessions, when: str
) -> None:
    work = Steps()
    request = asked(work, pause=work.pause, stop=lambda session: work.done.release())
    call = asyncio.create_task(collect(runner.run(request)))
    await work.began.wait()
    (session,) = sessions.all()
    sessions.pause(session, "", "")
    if when == "paused":
        work.done.release()
        await until(session, SessionState.PAUSED)
    session.request_cancel(Reason.CANCELLED_BY_CLIENT, "no more", "mary")

    with pytest.raises(SessionCancelled) as end:
        await call
    assert end.value.metadata["reason_text"] == "no more"
    assert end.value.metadata["cancelled_by"] == "mary"
    sessions.queue("cpu:0").expire()
    assert len([submit(sessions, Device().work) for _ in range(3)]) == 3  # its place is free


async def test_work_that_pauses_unasked_is_a_defect(runner: SessionRunner) -> None:
    async def work(session: Session) -> None:
        raise WorkPaused

    with pytest.raises(SessionFailed) as end:
        await collect(runner.run(asked(work)))
    assert end.value.reason is Reason.INTERNAL


async def test_paused_sessions_end_with_the_server(sessions: Sessions) -> None:
    device = Device()
    submit(sessions, device.work)
    await device.started.wait()
    paused = submit(sessions, device.work)
    sessions.pause(paused, "", "")
    await sessions.stop(0)
    assert paused.state is SessionState.CANCELLED


async def test_a_session_that_is_made_more_urgent_moves_up(sessions: Sessions) -> None:
    device = Device()
    submit(sessions, device.work)
    await device.started.wait()
    first, second = (submit(sessions, device.work) for _ in range(2))
    sessions.update(second, replace(second.options, priority=Priority.HIGH))
    assert [second.queue_position, first.queue_position] == [1, 2]
    device.release.set()
