"""Setting the machine's clock ends nothing, forgets nothing, and shows in what people read."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domains.errors import Reason
from domains.session.core.reading import SessionReader
from domains.session.core.sessions import Sessions
from domains.session.core.snapshots import snapshot_of
from domains.session.types import Accepted, Completed, SessionState, WorkOptions
from tests.clocks import SteeredTime
from tests.domains.session.conftest import (
    asked,
    collect,
    finish,
    nothing,
    started,
    submit,
)
from tests.domains.session.test_queue import Device

HOUR, DAYS = 3600.0, 8 * 86400.0
jumps = pytest.mark.parametrize("jump", [HOUR, DAYS, -HOUR])


@jumps
async def test_a_jump_ends_neither_what_runs_nor_what_waits(
    sessions: Sessions, clock: SteeredTime, jump: float
) -> None:
    device = Device()
    running = submit(sessions, device.work, WorkOptions(run_timeout_seconds=300))
    await device.started.wait()
    waiting = submit(sessions, device.work, WorkOptions(queue_timeout_seconds=300))
    clock.move(10)
    clock.set_wall(jump)
    sessions.queue("cpu:0").expire()
    sessions.forget_expired()
    assert running.state is SessionState.RUNNING
    assert waiting.state is SessionState.QUEUED
    assert running.run_left() == waiting.wait_left() == 290.0

    clock.move(290)
    sessions.queue("cpu:0").expire()
    assert waiting.failure is not None
    assert waiting.failure.reason is Reason.DEADLINE_EXPIRED
    device.release.set()


@jumps
async def test_a_jump_forgets_neither_sessions_nor_request_ids(
    sessions: Sessions, clock: SteeredTime, jump: float
) -> None:
    async def at_once(session: object) -> None:
        finish(session)  # type: ignore[arg-type]

    options = WorkOptions(request_id="once")
    session = submit(sessions, at_once, options, digest=b"one")
    again = asked(nothing, options, digest=b"one")
    await session.log.change().wait()
    clock.set_wall(jump)
    sessions.forget_expired()
    assert sessions.get(session.session_id) is session
    assert sessions.known(again) is session

    clock.move(61)
    sessions.forget_expired()
    assert sessions.known(again) is None


@jumps
async def test_a_jump_leaves_order_and_durations_as_they_were(
    sessions: Sessions, reader: SessionReader, clock: SteeredTime, jump: float
) -> None:
    session = await started(sessions)
    clock.set_wall(jump)
    clock.move(5)
    finish(session)
    events = await collect(reader.events(session))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    end = events[-1].event
    assert isinstance(end, Completed)
    assert end.total_seconds == 5.0


async def test_people_read_the_clock_whole_now(sessions: Sessions, clock: SteeredTime) -> None:
    session = await started(sessions, WorkOptions(queue_timeout_seconds=300))
    accepted = session.log.entry(1).event
    assert isinstance(accepted, Accepted)
    assert accepted.queue_deadline == clock.moment + timedelta(seconds=300)
    clock.set_wall(HOUR)
    finish(session)
    assert snapshot_of(session).end_time == clock.moment
    assert session.expire_time == clock.moment + timedelta(seconds=60)
    clock.set_wall(-HOUR)
    assert session.expire_time == clock.moment + timedelta(seconds=60)
