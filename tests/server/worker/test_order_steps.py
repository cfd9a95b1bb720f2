"""A memory order whose caller goes: whatever comes of it meanwhile, nothing of it stays."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from domains.errors import Cancelled, DomainError, ResourceExhausted
from domains.memory.types import BufferRegion, Move, Segment
from server.worker.front.memory_orders import Orders, Pending
from server.worker.front.order_steps import steps_of
from server.worker.link.frames import (
    AllocateBuffer,
    FreeBuffer,
    MemoryAnswer,
    MemoryDone,
    MemoryProgress,
    Order,
    Pin,
    Unpin,
)

ALLOCATION = AllocateBuffer("buffer", 1000)
SEGMENT = Segment("segment", 1000)
DONE = MemoryDone(1000)
FULL = ResourceExhausted("There is no room.")


class Worker:
    """Answers when it is told to, as the reader thread would."""

    def __init__(self) -> None:
        self.usable = True
        self.given: list[Order] = []
        self.stopped: list[Order] = []
        self._orders = Orders()
        self._last: Pending | None = None

    def order(self, order: Order) -> Pending:
        self.given.append(order)
        self._last = self._orders.issue(order)
        return self._last

    def stop_order(self, pending: Pending) -> None:
        self.stopped.append(pending.order)

    def answer(self, answer: MemoryDone | MemoryProgress | DomainError) -> None:
        """Answer the last order."""
        assert self._last is not None
        told = answer.failure() if isinstance(answer, DomainError) else answer
        self._orders.take(MemoryAnswer(self._last.ticket, told))

    def end(self) -> None:
        """It is gone, and answers nothing more."""
        self.usable = False
        self._orders.fail_all(lambda: Cancelled("It is gone."))


async def ended(worker: Worker, order: Order) -> MemoryDone:
    """How an order ended."""
    async with aclosing(steps_of(worker, order)) as steps:
        async for step in steps:
            if isinstance(step, MemoryDone):
                return step
    raise AssertionError("it ended with nothing")


async def asked(worker: Worker, order: Order = ALLOCATION) -> asyncio.Task[MemoryDone]:
    """Somebody who waits for the order."""
    task = asyncio.create_task(ended(worker, order))
    await turns()
    return task


async def turns() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_it_tells_how_far_it_is_and_how_it_ended() -> None:
    worker = Worker()
    move = Move(BufferRegion("one"), BufferRegion("other"), 1000)
    told: list[int | MemoryDone] = []

    async def follow() -> None:
        async for step in steps_of(worker, move):
            told.append(step)

    following = asyncio.create_task(follow())
    await turns()
    worker.answer(MemoryProgress(400))
    await turns()
    worker.answer(DONE)
    await following
    assert told == [400, DONE]
    assert worker.given == [move]
    assert worker.stopped == []


async def test_what_is_refused_is_raised_and_there_is_nothing_to_undo() -> None:
    worker = Worker()
    asking = await asked(worker)
    worker.answer(FULL)
    with pytest.raises(ResourceExhausted):
        await asking
    assert worker.given == [ALLOCATION]


async def test_who_goes_waits_until_it_has_stopped_however_often_they_are_cancelled() -> None:
    worker = Worker()
    asking = await asked(worker)
    for _ in range(2):
        asking.cancel()
        await turns()
        assert worker.stopped == [ALLOCATION]
        assert not asking.done()
    worker.answer(Cancelled("It was stopped."))
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert worker.given == [ALLOCATION]


@pytest.mark.parametrize(
    ("order", "done", "undo"),
    [
        (ALLOCATION, DONE, FreeBuffer("buffer")),
        (Pin(SEGMENT), MemoryDone(), Unpin(SEGMENT)),
    ],
)
async def test_what_came_nevertheless_is_undone(
    order: Order, done: MemoryDone, undo: Order
) -> None:
    worker = Worker()
    asking = await asked(worker, order)
    asking.cancel()
    await turns()
    worker.answer(done)
    await turns()
    assert worker.given == [order, undo]
    assert not asking.done()
    worker.answer(done)
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_worker_that_is_gone_has_nothing_to_undo() -> None:
    worker = Worker()
    asking = await asked(worker)
    asking.cancel()
    await turns()
    worker.answer(DONE)
    worker.end()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert worker.given == [ALLOCATION]


async def test_what_came_just_as_its_caller_went_is_undone() -> None:
    worker = Worker()
    asking = await asked(worker)
    worker.answer(DONE)
    asking.cancel()  # before the loop had a turn
    await turns()
    assert worker.given == [ALLOCATION, FreeBuffer("buffer")]
    worker.answer(DONE)
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_what_its_caller_has_is_theirs() -> None:
    worker = Worker()
    asking = await asked(worker)
    worker.answer(DONE)
    assert await asking == DONE
    assert worker.given == [ALLOCATION]
