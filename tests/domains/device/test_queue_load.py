"""What comes before new work: exact in short queues, soon so in long ones, and never costly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from domains.device.core.queue_load import QueueLoad, QueueLoads
from domains.session.core.looking import SHORT
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import Priority, WorkOptions
from tests.clocks import SteeredTime
from tests.domains.session.conftest import registry, submit

DEVICE = "cpu:0"
OWN = 2.0


async def endless(session: Session) -> None:
    session.start(lambda: None)
    await asyncio.Event().wait()


class Seconds:
    """Ten seconds for each session; counts how many it was asked about."""

    def __init__(self, slow: float = 0.0) -> None:
        self.sessions, self.slow = 0, slow

    def __call__(self, before: Sequence[Session]) -> float | None:
        self.sessions += len(before)
        time.sleep(self.slow)
        return 10.0 * len(before)


@pytest.fixture
async def sessions() -> AsyncIterator[Sessions]:
    made = registry(SteeredTime(), 10 * SHORT)
    yield made
    await made.stop(0)


def fill(sessions: Sessions, count: int, priority: Priority = Priority.NORMAL) -> None:
    for _ in range(count):
        submit(sessions, endless, WorkOptions(priority=priority), device_id=DEVICE)


async def test_a_short_queue_is_gone_through_each_time(sessions: Sessions) -> None:
    loads, seconds = QueueLoads(), Seconds(slow=0.01)
    for count in range(1, 4):
        fill(sessions, 1)
        load = loads.of(sessions.queue(DEVICE), Priority.NORMAL, OWN, seconds)
        assert load == QueueLoad(count, 10.0 * count, "model")


async def test_a_long_queue_is_gone_through_now_and_then(sessions: Sessions) -> None:
    """Those that came since count as the work that asks; then they are known as they are.

    One whose turn begins meanwhile comes before as it did.
    """
    loads, seconds = QueueLoads(), Seconds(slow=0.2)
    queue = sessions.queue(DEVICE)
    fill(sessions, 2 * SHORT)
    known = loads.of(queue, Priority.NORMAL, OWN, seconds)
    assert known == QueueLoad(2 * SHORT, 20.0 * SHORT, "model")
    fill(sessions, 50)
    guess = loads.of(queue, Priority.NORMAL, OWN, seconds)
    assert guess == QueueLoad(2 * SHORT + 50, 20.0 * SHORT + 50 * OWN, "model")
    assert loads.of(queue, Priority.NORMAL, None, seconds).seconds is None
    assert seconds.sessions == 2 * SHORT
    # Another priority has others before it.
    assert loads.of(queue, Priority.HIGH, OWN, seconds) == QueueLoad(0, 0.0, "")
    for _ in range(100):
        await asyncio.sleep(0.1)
        exact = loads.of(queue, Priority.NORMAL, OWN, seconds)
        if exact != guess:
            break
    assert exact == QueueLoad(2 * SHORT + 50, 10.0 * (2 * SHORT + 50), "model")


def test_fewer_are_never_less_than_none() -> None:
    assert QueueLoad(3, 30.0, "m").behind(-5, 10.0) == QueueLoad(0, 0.0, "m")
    assert QueueLoad(3, None, "m").behind(2, 10.0) == QueueLoad(5, None, "m")
