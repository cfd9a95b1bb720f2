"""When work will begin and end, from how long comparable work took."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from domains.session.core.plan import SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import Accepted, SessionOptions
from tests.clocks import SteeredTime
from tests.domains.session.conftest import finish, idle, plan, unprepared
from tests.domains.session.test_queue import Device
from tests.domains.sessions import until_final


def of_cost(sessions: Sessions, cost: float | None, work: object = idle) -> Session:
    """A session of so much work."""
    request = SessionRequest(SessionOptions(), b"", unprepared)
    return sessions.open(replace(plan(), cost=cost), work, request)  # type: ignore[arg-type]


async def measured(sessions: Sessions, clock: SteeredTime, seconds: float) -> None:
    """Work of cost 10 took so long."""

    async def work(session: Session) -> None:
        session.start(lambda: None)
        clock.move(seconds)
        finish(session)

    await until_final(of_cost(sessions, 10, work))


async def test_nobody_knows_before_anything_was_measured(sessions: Sessions) -> None:
    session = of_cost(sessions, 10)
    assert session.estimated_start_time is not None  # now: nothing is before it
    assert session.estimated_end_time is None


async def test_work_takes_as_long_for_its_cost_as_other_work(
    roomy: Sessions, clock: SteeredTime
) -> None:
    for seconds in (10, 20, 1000):  # the median: one that was slow is no measure
        await measured(roomy, clock, seconds)
    device = Device()
    running = of_cost(roomy, 5, device.work)
    await device.started.wait()
    clock.move(4)
    first, second, unknown, last = (of_cost(roomy, cost) for cost in (10, 20, None, 1))

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


async def test_an_end_is_expected_of_what_will_end(
    sessions: Sessions, clock: SteeredTime
) -> None:
    await measured(sessions, clock, 10)
    device = Device()
    of_cost(sessions, 10, device.work)
    await device.started.wait()
    waiting = of_cost(sessions, 10, device.work)
    sessions.pause(waiting, "", "")
    assert (waiting.estimated_start_time, waiting.estimated_end_time) == (None, None)
    device.release.set()


async def test_other_models_and_devices_are_no_measure(
    sessions: Sessions, clock: SteeredTime
) -> None:
    await measured(sessions, clock, 10)
    request = SessionRequest(SessionOptions(), b"", unprepared)
    for other in (
        replace(plan(), cost=10.0, model_id="other"),
        replace(plan("cuda:0"), cost=10.0),
    ):
        assert sessions.open(other, idle, request).estimated_end_time is None
