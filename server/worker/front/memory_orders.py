"""Memory orders that a worker has not answered yet, as the front sees them.

A reader thread brings answers, the event loop waits for them. An answer that does not go
with its order is a broken rule.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable

from domains.errors import DomainError, Failure
from domains.memory.types import Compare, Move
from server.worker.link.frames import (
    AllocateBuffer,
    MemoryAnswer,
    MemoryDone,
    MemoryProgress,
    Order,
    ProtocolError,
)

Outcome = MemoryDone | DomainError


class Pending:
    """One order: how far it is, and how it ended.

    Args:
        ticket: Its number.
        order: What is to be done.
    """

    def __init__(self, ticket: int, order: Order) -> None:
        self.ticket = ticket
        self.order = order
        self.outcome: Outcome | None = None
        self.over = asyncio.Event()
        """The worker has answered, or is gone."""
        self._loop = asyncio.get_running_loop()
        self._done = 0
        self._reported = 0
        self._woken = asyncio.Event()

    # From the reader thread.

    def advance(self, done: int) -> None:
        """It moves on.

        Raises:
            ProtocolError: By more than was ordered, or backwards.
        """
        if not self._done <= done <= _length(self.order):
            raise ProtocolError("a memory order is further than it can be")
        self._done = done
        self._post(self._woken.set)

    def check(self, answer: MemoryDone) -> None:
        """Refuse what this order cannot come to.

        Raises:
            ProtocolError: Another length.
        """
        order = self.order
        if isinstance(order, AllocateBuffer | Move) and answer.done != _length(order):
            raise ProtocolError("a memory order is done at another length")
        if isinstance(order, Compare) and answer.done > _length(order):
            raise ProtocolError("a memory order is done beyond its length")

    def finish(self, outcome: Outcome) -> None:
        """It is over; the first outcome counts. From any thread."""
        if self.outcome is None:
            self.outcome = outcome
            self._post(self._end)

    # From the event loop.

    async def next(self) -> int | Outcome:
        """Bytes done so far, each number once, or how it ended."""
        while True:
            self._woken.clear()
            if self.outcome is not None:
                return self.outcome
            if self._done != self._reported:
                self._reported = self._done
                return self._reported
            await self._woken.wait()

    def _end(self) -> None:
        self.over.set()
        self._woken.set()

    def _post(self, call: Callable[[], None]) -> None:
        # The loop may be closed already when the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


class Orders:
    """Every memory order that one worker has not answered."""

    def __init__(self) -> None:
        self._tickets = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Pending] = {}
        # When an answer last came, for moves and for everything else: see `MemoryLanes`.
        self._moved = {True: 0.0, False: 0.0}

    def issue(self, order: Order) -> Pending:
        """A new one; answers to it are expected from here on. Belongs to the event loop."""
        pending = Pending(next(self._tickets), order)
        with self._lock:
            lane = _moves(order)
            if lane not in {_moves(other.order) for other in self._waiting.values()}:
                self._moved[lane] = time.monotonic()
            self._waiting[pending.ticket] = pending
        return pending

    def take(self, frame: MemoryAnswer) -> None:
        """Bring an answer to its order. From the reader thread.

        Raises:
            ProtocolError: There is no such order, or it cannot come to that.
        """
        with self._lock:
            pending = self._waiting.get(frame.ticket)
            if pending is None:
                raise ProtocolError("a memory answer is about no order that waits")
            self._moved[_moves(pending.order)] = time.monotonic()
            if isinstance(frame.answer, MemoryProgress):
                pending.advance(frame.answer.done)
                return
            if isinstance(frame.answer, MemoryDone):
                pending.check(frame.answer)
            del self._waiting[frame.ticket]
        answer = frame.answer
        pending.finish(answer.error() if isinstance(answer, Failure) else answer)

    def forgive(self, seconds: float) -> None:
        """None could be answered for so long."""
        with self._lock:
            now = time.monotonic()
            for lane, moved in self._moved.items():
                self._moved[lane] = min(moved + seconds, now)

    def fail_all(self, error: Callable[[], DomainError]) -> None:
        """The worker will answer none of them."""
        with self._lock:
            waiting = tuple(self._waiting.values())
            self._waiting.clear()
        for pending in waiting:
            pending.finish(error())

    def stuck_since(self, *, one_lane: bool) -> float | None:
        """Since when nothing moved in a lane that has orders, in `time.monotonic` seconds.

        None when none waits. With `one_lane` all orders wait for each other.
        """
        with self._lock:
            lanes = {_moves(pending.order) for pending in self._waiting.values()}
            moved = [self._moved[lane] for lane in lanes]
            if not moved:
                return None
            return max(self._moved.values()) if one_lane else min(moved)


def _moves(order: Order) -> bool:
    return isinstance(order, Move | Compare)


def _length(order: Order) -> int:
    match order:
        case AllocateBuffer(size=size):
            return size
        case Move(length=length) | Compare(length=length):
            return length
        case _:
            return 0
