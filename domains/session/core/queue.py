"""One queue per device: every kind of work waits in it, one piece runs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from domains.at_work import task_of_no_call, working
from domains.clock import Clock
from domains.errors import Cancelled, DomainError
from domains.loops import kept
from domains.rooms import Room
from domains.session.core.foresight import Foresight
from domains.session.core.looking import SHORT, Looks
from domains.session.core.order import TurnOrder
from domains.session.core.places import Place, Places, Turn
from domains.session.core.remaining import Remaining
from domains.session.core.retrying import goes_elsewhere, starts_over
from domains.session.core.session import Session
from domains.session.core.yielding import YieldRule
from domains.session.errors import (
    DeviceOutOfUse,
    QueueFull,
    SessionTimedOut,
    TimeLimit,
    WorkerLost,
)
from domains.session.jobs import WorkPaused
from domains.session.ports import FaultReporter
from domains.session.turns import YieldReason
from domains.session.types import Priority, SessionState


class DeviceQueue:
    """Runs sessions of one device one after another.

    By priority; among equals clients take turns, and the sessions of one client come in the
    order of their arrival. A client's first session of a priority that has waited for ten
    minutes counts as the most urgent, if none of that client and priority was taken for as
    long: nobody waits for ever, and nobody gets ahead by waiting in numbers. One client
    alone may fill the queue; once others wait, it holds at most half of it, and what it
    holds beyond keeps nobody out.

    A session that is cancelled or whose time is over while it waits never starts. One that is
    paused keeps its place in the room and in the order of arrival, and waits again once
    resumed. Work that raises ends its session and never the queue.

    Work that can pause yields to work of a higher priority, between two steps, and after a
    slice of time to another client's of its own priority. Its session waits again with its
    arrival, and is never refused for want of room.

    Args:
        device_id: The device, or another name for what only one session may use at a time.
        length: Sessions that may wait.
        describe: What a client sees of an error.
        remaining: How much work of a session lies ahead.
        slice_seconds: How long a session works while another client's waits.
        clock: The time.
        admit: Raises while a session's work must not begin; it waits then.
        leave: Has what waits for this device placed elsewhere, as far as that can be, if the
            device is out of use.
    """

    def __init__(
        self,
        device_id: str,
        *,
        length: int,
        describe: FaultReporter,
        remaining: Remaining,
        slice_seconds: float,
        clock: Clock,
        admit: Callable[[Session], None] = lambda session: None,
        leave: Callable[[str], None] = lambda device_id: None,
    ) -> None:
        self.device_id = device_id
        self._admit, self._leave = admit, leave
        self._describe = describe
        self._places = Places()
        self._room = Room(length)
        self._arrivals = itertools.count()
        self._order = TurnOrder(clock)
        self._rule = YieldRule(self._order, slice_seconds)
        self._foresight = Foresight(remaining, self._rule, slice_seconds)
        self._wake = asyncio.Event()
        self._submitted = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._running: Place | None = None
        self._closed = False
        self._looks = Looks(self._look)

    @property
    def running(self) -> Session | None:
        """The session whose turn it is."""
        return None if self._running is None else self._running.session

    @property
    def depth(self) -> int:
        """Sessions that wait."""
        return sum(place.waits for place in self._places)

    @property
    def length(self) -> int:
        """Sessions in it: what runs, what waits, is paused, or ended while it waited."""
        return len(self._places) + (self._running is not None)

    def position_of_next(self) -> int:
        """How many sessions would at most be before a new one of normal priority."""
        return self.depth + (self.running is not None)

    def before(self, priority: Priority) -> list[Session]:
        """Sessions that come before a new one of that priority, next first: what runs and
        will not yield to it, and what waits with the same priority or a higher one.
        """
        running = self._running
        stays = running is not None and not self._rule.yields_to(running, priority)
        return ([running.session] if running is not None and stays else []) + [
            session
            for session in self.waiting()
            if session.options.priority.value <= priority.value
        ]

    def submit(self, session: Session, turn: Turn, *, returns: bool = False) -> None:
        """Put a session in; its queue position is known when this returns: in a long queue how
        many are before it at most, and soon how many are.

        Raises:
            QueueFull: There is no room, or none for this client while others wait; not for one
                that `returns`, which was accepted by an earlier server.
        """
        owner = session.owner
        if len(self._places) <= SHORT or not self._room.has_place_for(owner):
            self._drop_finished()
        if not returns:
            QueueFull.check(self.device_id, self._room, owner)
        self._room.take(owner)
        self._places.add(Place(session, turn, next(self._arrivals)))
        self._wake.set()
        if not self._looks.again(len(self._places), urgent=self._goes_first(session)):
            session.move_in_queue(len(self._places) - 1 + (self._running is not None))
        if self._runner is None:
            name = f"queue {self.device_id}"
            self._runner = task_of_no_call(kept(name, self._run), name)
        submitted, self._submitted = self._submitted, asyncio.Event()
        submitted.set()

    def submission(self) -> asyncio.Event:
        """An event that is set when the next session comes; take it before looking."""
        return self._submitted

    def reorder(self, session: Session | None = None) -> None:
        """Look again at who comes when and whether what runs is to yield: a session was
        paused, resumed or made more urgent, or time has passed. In a long queue that is soon.
        """
        if session is not None:
            self._places.moved(session)
        self._wake.set()
        self._looks.again(len(self._places))

    def _look(self) -> None:
        self._ask_to_yield()
        self._foresight.tell(self._running, self._levels())

    def _goes_first(self, session: Session) -> bool:
        """Whether what runs yields at once to a session that came, and was not asked to."""
        running = self._running
        if running is None or running.session.yielding is not None:
            return False
        return self._rule.yields_to(running, session.options.priority)

    def _ask_to_yield(self) -> None:
        running = self._running
        if running is None or running.session.yielding is not None:
            return
        reason = self._rule.reason(running, self._waiting())
        if reason is not None:
            running.interrupted = not self._rule.over(running)
            running.session.request_yield(reason)

    @property
    def full(self) -> bool:
        """Whether as many wait as may."""
        return self.length >= self._room.places and self.depth >= self._room.places

    def has_room_for(self, client: str) -> bool:
        """Whether `submit` would take a session of that client."""
        self._drop_finished()
        return self._room.has_place_for(client)

    def withdraw(self, session: Session) -> Turn:
        """Take out a session that waits; returns what `submit` was given with it.

        Raises:
            LookupError: It does not wait here.
        """
        place = self._places.of(session)
        if place is None:
            raise LookupError("the session does not wait in this queue")
        self._remove([place])
        return place.turn

    async def stop(self) -> None:
        """End the runner; what runs is interrupted, what waits stays as it is."""
        self._looks.stop()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
            self._runner = None

    def close(self) -> None:
        """No session comes any more, and those that came are final: the runner ends by itself,
        also where it is who calls this."""
        self._closed = True
        self._wake.set()

    def waiting(self) -> list[Session]:
        """Sessions that wait, next first."""
        return [place.session for place in self._waiting()]

    def _waiting(self) -> list[Place]:
        return [place for place in self._coming() if place is not self._running]

    def _coming(self) -> list[Place]:
        """Those that wait, and what runs where it is to yield, next first."""
        return [place for _, level in self._levels() for place in level]

    def _levels(self) -> list[tuple[int, list[Place]]]:
        """The same by their urgency."""
        places = [place for place in self._places if place.waits]
        running = self._running
        if running is not None and running.session.yielding is not None:
            places.append(running)
        return self._order.levels(places)

    def _remove(self, places: list[Place]) -> None:
        self._places.remove(places)
        for place in places:
            self._room.give_back(place.session.owner)
        self.reorder()

    async def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            if len(self._places) <= SHORT:  # a longer one drops them now and then
                self._drop_finished()
            if not await self._took_one() and not self._closed:
                await self._wake.wait()

    async def _took_one(self) -> bool:
        """Whether somebody's turn had come, which is over then; nothing of it is held on to."""
        place = self._next()
        if place is None:
            return False
        self._order.begin(place, self._places)
        self._running = place
        try:
            self._remove([place])
            with working(place.session.about.at_work):
                await self._take(place)
        finally:
            self._running = None
        return True

    def _next(self) -> Place | None:
        """Whose turn may come now; None where nobody's may."""
        while True:
            for place in self._order.coming(self._places):
                if place.session.wait_left() <= 0:
                    break
                if self._begins(place.session):
                    return place
            else:
                return None
            self._end_wait(place.session)

    async def _take(self, place: Place) -> None:
        """One session's turn. What it raises ends the session."""
        session = place.session
        try:
            await place.turn(session)
        except WorkPaused as error:
            self._keep(place, error)
        except WorkerLost as error:
            self._start_over(place, error)
        except DeviceOutOfUse as error:
            self._go_elsewhere(place, error)
        except Cancelled:
            session.cancel()
        except asyncio.CancelledError as error:
            runner = asyncio.current_task()
            if runner is not None and runner.cancelling():  # the queue itself is stopped
                if not session.suspended:
                    session.cancel()
                raise
            if session.cancel_reason is None:  # nobody asked for it: a defect
                self._fail(session, error)
            session.cancel()
        except Exception as error:
            self._fail(session, error)

    def _keep(self, place: Place, error: WorkPaused) -> None:
        """Work has paused: its session waits to be resumed, or for its next turn."""
        session = place.session
        session.done.set_back(error.kept_steps)
        if session.cancel_reason is not None:
            session.cancel()
        elif session.state is SessionState.PAUSING:
            self._put_back(place, slice_seconds=0.0)
            place.interrupted = False
            session.pause()
        elif session.yielding is not None:
            self._give_way(place, session.yielding)
        else:  # nobody asked for it: a defect
            self._fail(session, error)

    def _start_over(self, place: Place, error: WorkerLost) -> None:
        """Its worker was lost: once more, where it may."""
        session = place.session
        if session.suspended:
            return
        if not starts_over(session, error):
            self._fail(session, error)
            return
        session.done.set_back(0)
        self._wait_again(place, lambda: session.start_over(self._describe(error)))
        self._looks.again(len(self._places), urgent=True)

    def _go_elsewhere(self, place: Place, error: DeviceOutOfUse) -> None:
        """Its device went out of use before a worker had its job: it waits for another one, as
        does what waited behind it, or fails where there is none for it."""
        session = place.session
        if session.suspended:
            return
        if not goes_elsewhere(session):
            self._fail(session, error)
            return
        self._wait_again(place, session.give_way)
        if place.waits and self._places.of(session) is place:  # no other has room
            self._remove([place])
            self._fail(session, error)

    def _wait_again(self, place: Place, give_way: Callable[[], None]) -> None:
        """Its turn came to nothing: it waits for another, or is paused if it was to be. What
        waited here was moved when the device went out of use; this was at work then."""
        pausing = place.session.state is SessionState.PAUSING
        give_way()
        self._put_back(place, slice_seconds=0.0)
        self._running = None
        if pausing:
            place.session.pause()
        self._leave(self.device_id)

    def _give_way(self, place: Place, reason: YieldReason) -> None:
        session, worked = place.session, place.session.slice_seconds
        self._order.give_way(place, stepped=worked is not None)
        session.give_way()
        left = place.slice_seconds + (worked or 0.0) if place.interrupted else 0.0
        self._put_back(place, slice_seconds=left)
        self._running = None
        self._looks.again(len(self._places), urgent=True)
        session.note_yield(reason)

    def _put_back(self, place: Place, *, slice_seconds: float) -> None:
        """Into the queue, which has room for what came out of it."""
        place.slice_seconds = slice_seconds
        self._room.take(place.session.owner)
        self._places.add(place, returns=True)

    def _end_wait(self, session: Session) -> None:
        """It has waited for as long as it may."""
        seconds = session.options.queue_timeout_seconds or 0.0
        self._fail(session, SessionTimedOut(session.session_id, TimeLimit.QUEUE, seconds))

    def _fail(self, session: Session, error: BaseException) -> None:
        session.fail(self._describe(error))

    def _begins(self, session: Session) -> bool:
        """Whether its turn may come: it is written down, the server goes on, and there is
        memory; `expire` looks again."""
        if session.held or session.suspended:
            return False
        try:
            self._admit(session)
        except DomainError:
            return False
        return True

    def _drop_finished(self) -> None:
        for session in [place.session for place in self._places if place.waits]:
            if session.wait_left() <= 0:
                self._end_wait(session)
        finished = [place for place in self._places if place.session.state.final]
        if finished:
            self._remove(finished)

    def expire(self) -> None:
        """End waiting sessions whose time is over, and look who is next; call now and then."""
        self._drop_finished()
        self.reorder()
