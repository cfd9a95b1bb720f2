"""One queue per device: every kind of work waits in it, one piece runs."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domains.clock import Clock
from domains.errors import Cancelled
from domains.loops import kept
from domains.rooms import Room
from domains.session.core.session import Session
from domains.session.core.speeds import Speeds
from domains.session.errors import QueueFull, SessionTimedOut, TimeLimit
from domains.session.jobs import WorkPaused
from domains.session.ports import FaultReporter
from domains.session.types import Priority, SessionState

_PATIENCE_SECONDS = 600.0

Turn = Callable[[Session], Awaitable[None]]


@dataclass(frozen=True)
class _Place:
    session: Session
    turn: Turn
    arrival: int


class DeviceQueue:
    """Runs sessions of one device one after another.

    By priority; among equals clients take turns, and the sessions of one client come in the
    order of their arrival. A client's first session of a priority that has waited for ten
    minutes counts as the most urgent, if none of that client and priority was taken for as
    long: nobody waits for ever, and nobody gets ahead by waiting in numbers. One client
    alone may fill the queue; once others wait, it holds at most half of it, and what it
    holds beyond keeps nobody out.

    A session that is cancelled or whose time is over while it waits never starts. One that
    is paused keeps its place in the room and in the order of arrival, and waits again once
    it is resumed. Work that raises ends its session and never the queue.

    Args:
        device_id: The device, or another name for what only one session may use at a time.
        length: Sessions that may wait.
        describe: What a client sees of an error.
        speeds: How long work takes on each device.
        clock: The time.
    """

    def __init__(
        self,
        device_id: str,
        *,
        length: int,
        describe: FaultReporter,
        speeds: Speeds,
        clock: Clock,
    ) -> None:
        self.device_id = device_id
        self._describe = describe
        self._speeds = speeds
        self._clock = clock
        self._places: list[_Place] = []  # of those that wait or are paused
        self._room = Room(length)
        self._arrivals = itertools.count()
        self._turns = itertools.count()
        self._last_turns: dict[str, int] = {}
        self._served: dict[tuple[str, Priority], float] = {}
        self._wake = asyncio.Event()
        self._submitted = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self.running: Session | None = None

    @property
    def depth(self) -> int:
        """Sessions that wait."""
        return sum(_waits(place) for place in self._places)

    def position_of_next(self) -> int:
        """How many sessions would at most be before a new one of normal priority."""
        return self.depth + (self.running is not None)

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
        owner = session.owner
        if not self._room.has_place_for(owner):
            shared = not self._room.alone(owner)
            raise QueueFull(self.device_id, self._room.limit_for(owner), shared=shared)
        self._room.take(owner)
        self._places.append(_Place(session, turn, next(self._arrivals)))
        self.reorder()
        if self._runner is None:
            name = f"queue {self.device_id}"
            self._runner = asyncio.create_task(kept(name, self._run), name=name)
        self._wake.set()
        submitted, self._submitted = self._submitted, asyncio.Event()
        submitted.set()

    def submission(self) -> asyncio.Event:
        """An event that is set when the next session comes; take it before looking."""
        return self._submitted

    def reorder(self) -> None:
        """Look again at who comes when: a session was paused, resumed or made more urgent."""
        running = self.running
        before = 0 if running is None else 1
        wait = 0.0 if running is None else self._left(running)
        for position, session in enumerate(self.waiting()):
            work = self._left(session)
            session.move_in_queue(position + before, wait=wait, work=work)
            wait = None if wait is None or work is None else wait + work
        self._wake.set()

    def _left(self, session: Session) -> float | None:
        """Seconds of work left of a session; None while nothing comparable is known."""
        if session.effort is None:
            return None
        whole = self._speeds.work_seconds(session.device_id, session.effort)
        return None if whole is None else max(whole - session.worked_seconds, 0.0)

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
        for place in self._places:
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
        rounds: Counter[tuple[Priority, str]] = Counter()
        firsts: set[tuple[str, Priority]] = set()
        keys: dict[int, tuple[int, int, int, int]] = {}
        waiting = [place for place in self._places if _waits(place)]
        for place in sorted(waiting, key=lambda place: place.arrival):
            session = place.session
            owner, priority = session.owner, session.options.priority
            if (owner, priority) not in firsts:
                firsts.add((owner, priority))
                if self._neglected(session):
                    priority = Priority.HIGH
            last_turn = self._last_turns.get(owner, -1)
            keys[place.arrival] = (
                priority.value,
                rounds[priority, owner],
                last_turn,
                place.arrival,
            )
            rounds[priority, owner] += 1
        return sorted(waiting, key=lambda place: keys[place.arrival])

    def _neglected(self, session: Session) -> bool:
        """Whether it has waited too long, and every other like it of its client as well."""
        key = session.owner, session.options.priority
        since_turn = self._clock.monotonic() - self._served.get(key, -math.inf)
        return min(session.waited_seconds, since_turn) >= _PATIENCE_SECONDS

    def _remove(self, places: list[_Place]) -> None:
        gone = {place.arrival for place in places}
        self._places = [place for place in self._places if place.arrival not in gone]
        for place in places:
            self._room.give_back(place.session.owner)
        self.reorder()

    def _note_turn(self, session: Session) -> None:
        """Remember it of those who wait, and of the one whose turn it is."""
        waiting = {place.session.owner for place in self._places}
        self._last_turns = {o: t for o, t in self._last_turns.items() if o in waiting}
        self._served = {key: t for key, t in self._served.items() if key[0] in waiting}
        self._last_turns[session.owner] = next(self._turns)
        self._served[session.owner, session.options.priority] = self._clock.monotonic()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            self._drop_finished()
            if not await self._took_one():
                await self._wake.wait()

    async def _took_one(self) -> bool:
        """Whether somebody's turn had come, which is over then; nothing of it is held on to."""
        order = self._in_order()
        if not order:
            return False
        place = order[0]
        self.running = place.session
        self._note_turn(place.session)
        self._remove([place])
        try:
            await self._take(place)
        finally:
            self.running = None
        return True

    async def _take(self, place: _Place) -> None:
        """One session's turn. What it raises ends the session."""
        session = place.session
        try:
            await place.turn(session)
        except WorkPaused as error:
            self._keep(place, error)
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

    def _keep(self, place: _Place, error: WorkPaused) -> None:
        """Work has paused: its session waits to be resumed."""
        session = place.session
        if session.cancel_reason is not None:
            session.cancel()
        elif session.state is SessionState.PAUSING:
            self._room.take(session.owner)
            self._places.append(place)
            session.pause()
        else:  # nobody asked for it: a defect
            self._fail(session, error)

    def _fail(self, session: Session, error: BaseException) -> None:
        session.fail(self._describe(error))

    def _drop_finished(self) -> None:
        for session in self.waiting():
            if session.wait_left() <= 0:
                seconds = session.options.queue_timeout_seconds or 0.0
                self._fail(
                    session, SessionTimedOut(session.session_id, TimeLimit.QUEUE, seconds)
                )
        finished = [place for place in self._places if place.session.state.final]
        if finished:
            self._remove(finished)

    def expire(self) -> None:
        """End waiting sessions whose time is over, and look who is next; call now and then."""
        self._drop_finished()
        self.reorder()


def _waits(place: _Place) -> bool:
    return place.session.state is SessionState.QUEUED
