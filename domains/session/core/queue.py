"""One queue per device: every kind of work waits in it, one piece runs."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable

from domains.errors import Cancelled
from domains.session.core.session import Session
from domains.session.errors import QueueFull, SessionTimedOut
from domains.session.ports import FaultReporter

Turn = Callable[[Session], Awaitable[None]]


class DeviceQueue:
    """Runs sessions of one device one after another, by priority and then by arrival.

    A session that is cancelled or whose time is over while it waits never starts. Work
    that raises ends its session and never the queue.

    Args:
        device_id: The device, or another name for what only one session may use at a time.
        length: Sessions that may wait.
        describe: What a client sees of an error.
    """

    def __init__(self, device_id: str, *, length: int, describe: FaultReporter) -> None:
        self.device_id = device_id
        self._length = length
        self._describe = describe
        self._waiting: list[tuple[int, int, Session, Turn]] = []
        self._arrivals = itertools.count()
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self.running: Session | None = None

    @property
    def depth(self) -> int:
        """Sessions that wait."""
        return len(self._waiting)

    def position_of_next(self) -> int:
        """How many sessions would be before a new one of normal priority."""
        return len(self._waiting) + (self.running is not None)

    def submit(self, session: Session, turn: Turn) -> None:
        """Put a session in; its queue position is known when this returns.

        Raises:
            QueueFull: There is no room.
        """
        self._drop_finished()
        if len(self._waiting) >= self._length:
            raise QueueFull(self.device_id, self._length)
        place = (session.options.priority.value, next(self._arrivals), session, turn)
        heapq.heappush(self._waiting, place)
        self._update_positions()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name=f"queue {self.device_id}")
        self._wake.set()

    async def stop(self) -> None:
        """End the runner; what runs is interrupted, what waits stays as it is."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
            self._runner = None

    def waiting(self) -> list[Session]:
        """Sessions that wait, next first."""
        return [session for _, _, session, _ in sorted(self._waiting, key=lambda w: w[:2])]

    async def _run(self) -> None:
        while True:
            self._drop_finished()
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            _, _, session, turn = heapq.heappop(self._waiting)
            self.running = session
            self._update_positions()
            try:
                await self._take(session, turn)
            finally:
                self.running = None

    async def _take(self, session: Session, turn: Turn) -> None:
        """One session's turn. What it raises ends the session."""
        try:
            await turn(session)
        except Cancelled:
            session.cancel()
        except asyncio.CancelledError as error:
            runner = asyncio.current_task()
            if runner is not None and runner.cancelling():  # the queue itself is stopped
                session.cancel()
                raise
            if session.cancel_reason is None:  # nobody asked for it: a defect
                self._fail(session, error)
            session.cancel()
        except Exception as error:
            self._fail(session, error)

    def _fail(self, session: Session, error: BaseException) -> None:
        session.fail(self._describe(error))

    def _drop_finished(self) -> None:
        for session in self.waiting():
            if not session.state.final and session.remaining() <= 0:
                self._fail(
                    session,
                    SessionTimedOut(session.session_id, session.options.timeout_seconds),
                )
        kept = [place for place in self._waiting if not place[2].state.final]
        if len(kept) != len(self._waiting):
            self._waiting = kept
            heapq.heapify(self._waiting)
            self._update_positions()

    def expire(self) -> None:
        """End waiting sessions whose time is over; call now and then."""
        self._drop_finished()

    def _update_positions(self) -> None:
        before = 1 if self.running is not None else 0
        for position, session in enumerate(self.waiting()):
            session.move_in_queue(position + before)
