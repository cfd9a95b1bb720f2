"""One queue per device: every kind of work waits in it, one piece runs."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domains.errors import Cancelled
from domains.loops import kept
from domains.rooms import Room
from domains.session.core.session import Session
from domains.session.errors import QueueFull, SessionTimedOut
from domains.session.ports import FaultReporter
from domains.session.types import Priority

Turn = Callable[[Session], Awaitable[None]]


@dataclass(frozen=True)
class _Place:
    session: Session
    turn: Turn
    arrival: int


class DeviceQueue:
    """Runs sessions of one device one after another.

    By priority; among equals clients take turns, and the sessions of one client come in
    the order of their arrival. One client alone may fill the queue; once others wait, it
    holds at most half of it, and what it holds beyond keeps nobody out.

    A session that is cancelled or whose time is over while it waits never starts. Work
    that raises ends its session and never the queue.

    Args:
        device_id: The device, or another name for what only one session may use at a time.
        length: Sessions that may wait.
        describe: What a client sees of an error.
    """

    def __init__(self, device_id: str, *, length: int, describe: FaultReporter) -> None:
        self.device_id = device_id
        self._describe = describe
        self._waiting: list[_Place] = []
        self._room = Room(length)
        self._arrivals = itertools.count()
        self._turns = itertools.count()
        self._last_turns: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self.running: Session | None = None

    @property
    def depth(self) -> int:
        """Sessions that wait."""
        return len(self._waiting)

    def position_of_next(self) -> int:
        """How many sessions would at most be before a new one of normal priority."""
        return len(self._waiting) + (self.running is not None)

    def before(self, priority: Priority) -> list[Session]:
        """Sessions that come before a new one of that priority, next first: what runs, and
        what waits with the same priority or a higher one.
        """
        running = [] if self.running is None else [self.running]
        return running + [
            session
            for session in self.waiting()
            if session.options.priority.value <= priority.value
        ]

    def submit(self, session: Session, turn: Turn) -> None:
        """Put a session in; its queue position is known when this returns.

        Raises:
            QueueFull: There is no room, or none for this client while others wait.
        """
        self._drop_finished()
        client = session.client
        if not self._room.has_place_for(client):
            shared = not self._room.alone(client)
            raise QueueFull(self.device_id, self._room.limit_for(client), shared=shared)
        self._room.take(client)
        self._waiting.append(_Place(session, turn, next(self._arrivals)))
        self._update_positions()
        if self._runner is None:
            name = f"queue {self.device_id}"
            self._runner = asyncio.create_task(kept(name, self._run), name=name)
        self._wake.set()

    @property
    def full(self) -> bool:
        """Whether as many wait as may."""
        return self.depth >= self._room.places

    def has_room_for(self, client: str) -> bool:
        """Whether `submit` would take a session of that client."""
        self._drop_finished()
        return self._room.has_place_for(client)

    def withdraw(self, session: Session) -> Turn:
        """Take out a session that waits; returns what `submit` was given with it.

        Raises:
            LookupError: It does not wait here.
        """
        for place in self._waiting:
            if place.session is session:
                self._remove([place])
                return place.turn
        raise LookupError("the session does not wait in this queue")

    async def stop(self) -> None:
        """End the runner; what runs is interrupted, what waits stays as it is."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
            self._runner = None

    def waiting(self) -> list[Session]:
        """Sessions that wait, next first."""
        return [place.session for place in self._in_order()]

    def _in_order(self) -> list[_Place]:
        """By priority, then in rounds: everybody's first one, everybody's second one.

        Within a round the client goes first whose last turn is longest ago.
        """
        rounds: Counter[tuple[int, str]] = Counter()
        keys: dict[int, tuple[int, int, int, int]] = {}
        for place in sorted(self._waiting, key=lambda place: place.arrival):
            session = place.session
            priority = session.options.priority.value
            keys[place.arrival] = (
                priority,
                rounds[priority, session.client],
                self._last_turns.get(session.client, -1),
                place.arrival,
            )
            rounds[priority, session.client] += 1
        return sorted(self._waiting, key=lambda place: keys[place.arrival])

    def _remove(self, places: list[_Place]) -> None:
        gone = {place.arrival for place in places}
        self._waiting = [place for place in self._waiting if place.arrival not in gone]
        for place in places:
            self._room.give_back(place.session.client)
        self._update_positions()

    def _note_turn(self, client: str) -> None:
        """Remember it of those who wait, and of the one whose turn it is."""
        waiting = {place.session.client for place in self._waiting}
        self._last_turns = {c: t for c, t in self._last_turns.items() if c in waiting}
        self._last_turns[client] = next(self._turns)

    async def _run(self) -> None:
        while True:
            self._drop_finished()
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            place = self._in_order()[0]
            self.running = place.session
            self._note_turn(place.session.client)
            self._remove([place])
            try:
                await self._take(place.session, place.turn)
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
        finished = [place for place in self._waiting if place.session.state.final]
        if finished:
            self._remove(finished)

    def expire(self) -> None:
        """End waiting sessions whose time is over; call now and then."""
        self._drop_finished()

    def _update_positions(self) -> None:
        before = 1 if self.running is not None else 0
        for position, session in enumerate(self.waiting()):
            session.move_in_queue(position + before)
