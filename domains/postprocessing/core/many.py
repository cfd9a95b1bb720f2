"""Many pictures of one request, each in a session of its own, on whatever devices there are."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from domains.device.types import DeviceChoice, Placement, at_once
from domains.errors import Failure, Reason, Unavailable
from domains.postprocessing.core.run import Piece
from domains.postprocessing.ports import PlacedDevices
from domains.session.core.children import (
    FOLLOWED,
    RELAYED,
    Children,
    is_left_behind,
    paused,
    why_not_completed,
)
from domains.session.core.items import SessionItem
from domains.session.core.plan import SessionRequest
from domains.session.core.retrying import MOST_LOST_TURNS
from domains.session.core.session import Session
from domains.session.core.times import Spell
from domains.session.errors import EventsExpired, SessionTimedOut, ShuttingDown, TimeLimit
from domains.session.jobs import WorkPaused
from domains.session.ports import FaultReporter
from domains.session.types import (
    Completed,
    ItemFinished,
    Outcome,
    Phase,
    Preview,
    SessionState,
)

_LOOK_SECONDS = 1.0  # devices come and go without telling


@dataclass(frozen=True)
class Means:
    """What the pictures of a request are done with.

    `children` are the sessions of pictures, `devices` says how many run at once; `describe` is
    what a client sees of an error.
    """

    children: Children
    devices: PlacedDevices
    describe: FaultReporter


@dataclass
class _Picture:
    """One of the pictures, and its session of now."""

    at: int
    piece: Piece
    child: Session | None = None
    task: asyncio.Task[Failure | None] | None = field(default=None, repr=False)


class ManyRun:
    """One turn of a session for many pictures.

    Pictures are begun in their order, two for each ready device, so that none waits while the
    end of one is written down. One that fails ends none of the others. What an earlier turn or
    server has finished is taken over.

    Args:
        pieces: The pictures; those that cannot be used fail by themselves.
        request: A session for one of them, as an item of that one.
        placement: Where they may be done.
        session: The session that all of them are of.
        means: With what.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        request: Callable[[Piece, Session], SessionRequest],
        placement: Placement,
        session: Session,
        means: Means,
    ) -> None:
        self._request, self._placement = request, placement
        self._session, self._means = session, means
        told = [each for each in session.log.entries() if isinstance(each, ItemFinished)]
        names = {each.item_id for each in told}
        self._failed = max((each.failed for each in told), default=0)
        self._count, self._done = len(pieces), len(names)
        self._waiting = [
            _Picture(at, piece) for at, piece in enumerate(pieces) if piece.item_id not in names
        ]
        self._at_work: list[_Picture] = []
        self._any_began = bool(names)
        self._seconds: defaultdict[Phase, float] = defaultdict(float)

    async def work(self) -> Outcome:
        """Have done what is left.

        Raises:
            WorkPaused: The session was to pause, and no picture is at work.
            SessionTimedOut: None has begun in the time that the session may wait.
            Unavailable: There is no device any more.
        """
        try:
            while self._waiting or self._at_work:
                changed = self._session.log.change()
                if self._session.state is SessionState.PAUSING:
                    self._pause()
                else:
                    self._begin_some()
                self._keep_to_wait()
                tasks = [each.task for each in self._at_work if each.task is not None]
                waits = asyncio.create_task(changed.wait())
                try:
                    await asyncio.wait(
                        [*tasks, waits],
                        timeout=_LOOK_SECONDS,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    waits.cancel()
                self._note_ends()
        finally:
            await self._leave()
        return Outcome(timings=dict(self._seconds))

    def _keep_to_wait(self) -> None:
        """The session waits as long as none of its pictures has begun.

        Raises:
            SessionTimedOut: That was too long.
        """
        limit = self._session.options.queue_timeout_seconds
        if self._any_began or limit is None:
            return
        children = [each.child for each in self._at_work if each.child is not None]
        self._any_began = any(child.state is not SessionState.QUEUED for child in children)
        waited = self._session.waited_seconds + self._session.times.spent(Spell.RUNNING)
        if not self._any_began and waited > limit:
            raise SessionTimedOut(self._session.session_id, TimeLimit.QUEUE, limit)

    def _begin_some(self) -> None:
        while self._waiting and len(self._at_work) < self._most_at_once():
            picture = self._waiting.pop(0)
            picture.task = asyncio.create_task(self._do(picture))
            self._at_work.append(picture)

    def _most_at_once(self) -> int:
        if not isinstance(self._placement, DeviceChoice):
            return 2
        return at_once(self._means.devices.selected(self._placement))

    def _pause(self) -> None:
        """Ask every picture's session to pause.

        Raises:
            WorkPaused: They have.
        """
        children = [picture.child for picture in self._at_work]
        if paused(self._means.children.sessions, children, "Its request was paused."):
            raise WorkPaused

    def _note_ends(self) -> None:
        for picture in tuple(self._at_work):
            if picture.task is None or not picture.task.done():
                continue
            self._at_work.remove(picture)
            self._tell(picture, picture.task.result())

    def _tell(self, picture: _Picture, failure: Failure | None) -> None:
        """Write down that a picture has ended."""
        self._done += 1
        self._failed += failure is not None
        item = SessionItem(self._session, picture.piece.item_id, picture.at)
        child = picture.child
        self._session.finish_item(
            ItemFinished(
                item.item_id,
                self._done,
                self._failed,
                self._count,
                item.images,
                failure,
                session_id="" if child is None else child.session_id,
            )
        )
        self._session.done.reach(self._done / self._count)

    async def _leave(self) -> None:
        """Follow nothing more. Unless another turn goes on with them, sessions are stopped, and
        have ended when this returns."""
        tasks = [each.task for each in self._at_work if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session.suspended or self._session.state is SessionState.PAUSING:
            return
        for child in self._means.children.cancel(self._session):
            await child.over()

    # One picture.

    async def _do(self, picture: _Picture) -> Failure | None:
        """Have a picture done; returns why it failed.

        Raises:
            Unavailable: There is no device for it.
        """
        if isinstance(picture.piece.job, Failure):
            return picture.piece.job
        found = self._means.children.of(self._session, picture.piece.item_id)
        child = next((each for each in found if not is_left_behind(each)), None)
        if child is None and sum(each.lost for each in found) >= MOST_LOST_TURNS:
            return found[-1].failure
        try:
            first = 1 if child is None else child.log.last_sequence + 1
            picture.child = child = child or await self._begun(picture.piece)
            if child.state is SessionState.PAUSED:
                self._means.children.sessions.resume(child, "")
            await self._follow(picture, child, first)
        except ShuttingDown:
            await asyncio.Event().wait()  # this session is suspended, and all of it ends
        except Unavailable:
            raise
        except Exception as error:
            described: Failure = self._means.describe(error)
            return described
        assert child is not None
        if child.state is SessionState.COMPLETED:
            return None
        failure = why_not_completed(child)
        if failure.reason is Reason.SHUTTING_DOWN:
            await asyncio.Event().wait()
        return failure

    async def _begun(self, piece: Piece) -> Session:
        """A session for a picture, once there is room for it in a queue."""
        begin = self._means.children.runner.begin
        return await self._means.children.begun(
            lambda: begin(self._request(piece, self._session))
        )

    async def _follow(self, picture: _Picture, child: Session, first: int) -> None:
        """Tell what a picture's session reports, until it is over."""
        session = self._session
        item = SessionItem(session, picture.piece.item_id, picture.at)
        events = self._means.children.reader.events
        try:
            async for event in events(child, first, delivery=FOLLOWED):
                if isinstance(event.event, RELAYED | Preview):
                    item.record(event.event)
        except EventsExpired:
            pass  # it ended, and its progress was given up meanwhile
        await child.over()
        known = {image.image_index for image in item.images}
        for image in child.images:
            if image.image_index + item.first_image not in known:
                item.finish_image(image)
        if child.peak_memory is not None:
            session.note_peak(child.peak_memory)
        end = child.log.terminal
        if isinstance(end, Completed):
            for phase, seconds in end.timings.items():
                if phase is not Phase.QUEUED:
                    self._seconds[phase] += seconds
