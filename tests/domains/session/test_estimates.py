"""When work will begin and end, from how long comparable work took."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from domains.session.core.order import Turn
from domains.session.core.placed import Placed
from domains.session.core.plan import SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.speeds import Effort
from domains.session.types import Accepted, Phase, WorkOptions
from domains.values import PlacementDecision
from tests.clocks import SteeredTime
from tests.domains.session.conftest import idle, plan, unprepared
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


async def test_no_end_is_expected_of_what_is_paused(measured: Sessions) -> None:
    device = Device()
    of_steps(measured, 10, device.work)
    await device.started.wait()
    waiting = of_steps(measured, 10, device.work)
    assert waiting.estimated_end_time is not None
    measured.pause(waiting, "", "")
    assert (waiting.estimated_start_time, waiting.estimated_end_time) == (None, None)
    device.release.set()
