"""Queues of hundreds: what comes is seen together and soon, and at once where it is urgent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domains.errors import Reason
from domains.session.core.looking import SHORT, Looks
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.errors import QueueFull
from domains.session.turns import YieldReason
from domains.session.types import Priority, SessionState, WorkOptions
from tests.clocks import SteeredTime
from tests.domains.session.conftest import registry, submit, until_started
from tests.domains.session.test_queue import Device
from tests.domains.session.test_yielding import Drawing, Stand

MANY = 6 * SHORT


@pytest.fixture
async def crowded(clock: SteeredTime) -> AsyncIterator[Sessions]:
    """A registry whose queues hold hundreds."""
    made = registry(clock, MANY)
    yield made
    await made.stop(0)


class SlowLooks:
    """Looks that take a while, counted."""

    def __init__(self) -> None:
        self.count = 0
        self.looked = asyncio.Event()
        self.looks = Looks(self._look)

    def _look(self) -> None:
        self.count += 1
        self.looked.set()
        until = asyncio.get_running_loop().time() + 0.005
        while asyncio.get_running_loop().time() < until:
            pass


async def test_a_short_queue_is_looked_at_whenever_something_happens() -> None:
    slow = SlowLooks()
    assert [slow.looks.again(SHORT) for _ in range(5)] == [True] * 5
    assert slow.count == 5


async def test_what_happens_in_a_long_queue_is_seen_together_and_soon() -> None:
    slow = SlowLooks()
    assert slow.looks.again(SHORT + 1)  # it was not looked at for long
    slow.looked.clear()
    assert [slow.looks.again(SHORT + 1) for _ in range(50)] == [False] * 50
    async with asyncio.timeout(10):
        await slow.looked.wait()
    assert slow.count == 2  # one for all fifty


async def test_what_is_urgent_in_a_long_queue_is_seen_at_once_and_not_once_more() -> None:
    slow = SlowLooks()
    slow.looks.again(SHORT + 1)
    assert not slow.looks.again(SHORT + 1)
    assert slow.looks.again(SHORT + 1, urgent=True)
    await asyncio.sleep(0.2)
    assert slow.count == 2  # what was planned is done


async def test_a_queue_that_has_ended_is_not_looked_at_any_more() -> None:
    slow = SlowLooks()
    slow.looks.again(SHORT + 1)
    slow.looks.again(SHORT + 1)
    slow.looks.stop()
    await asyncio.sleep(0.2)
    assert slow.count == 1


async def test_hundreds_wait_in_the_order_of_their_arrival(crowded: Sessions) -> None:
    """At first each is told how many are before it at most, soon how many are."""
    device = Device()
    first = submit(crowded, device.work)
    await until_started(first)
    urgent = [
        submit(crowded, device.work, WorkOptions(priority=Priority.HIGH)) for _ in range(50)
    ]
    low = submit(crowded, device.work, WorkOptions(priority=Priority.LOW))
    others = [submit(crowded, device.work) for _ in range(MANY - 51)]
    told = [each.queue_position for each in others]
    exact = [51 + number for number in range(len(others))]
    assert all(
        at_most in (position, position + 1)
        for at_most, position in zip(told, exact, strict=True)
    )
    with pytest.raises(QueueFull):
        submit(crowded, device.work)
    async with asyncio.timeout(30):
        while [each.queue_position for each in [*urgent, *others, low]] != [
            *range(1, MANY + 1)
        ]:
            await low.log.change().wait()
    low.request_cancel(Reason.CANCELLED_BY_CLIENT)
    submit(crowded, device.work)  # there is room again
    device.release.set()


async def test_urgent_work_behind_hundreds_is_let_go_first_at_once(
    crowded: Sessions, reader: SessionReader
) -> None:
    stand = Stand(crowded, SessionRunner(crowded, reader))
    work, device = Drawing(), Device()
    patient = await stand.draw(work, WorkOptions(priority=Priority.LOW))
    await until_started(patient)
    waiting: list[Session] = [
        submit(crowded, device.work, WorkOptions(priority=Priority.LOW))
        for _ in range(2 * SHORT)
    ]
    assert patient.yielding is None
    urgent = submit(crowded, device.work, WorkOptions(priority=Priority.HIGH))
    assert patient.yielding is YieldReason.HIGHER_PRIORITY
    work.step()
    await until_started(urgent)
    assert patient.state is SessionState.QUEUED
    assert all(each.state is SessionState.QUEUED for each in waiting)
    for call in stand.calls.values():
        call.cancel()
    await asyncio.gather(*stand.calls.values(), return_exceptions=True)
