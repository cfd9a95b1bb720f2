"""Every session this server knows: opening, finding, stopping, forgetting."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from domains.clock import Clock
from domains.errors import Reason
from domains.session.core import entries
from domains.session.core.changes import SessionChanges
from domains.session.core.contents import AcceptedContents
from domains.session.core.keeping import Keeping
from domains.session.core.needed import NeededArtifacts
from domains.session.core.placed import Placed
from domains.session.core.places import Turn
from domains.session.core.plan import SessionPlan, SessionRequest, resolved_about
from domains.session.core.progress import Progress
from domains.session.core.queue import DeviceQueue
from domains.session.core.queues import Queues
from domains.session.core.remaining import Remaining
from domains.session.core.session import Session
from domains.session.core.speeds import Speeds
from domains.session.errors import RequestIdReused, SessionNotFound, ShuttingDown
from domains.session.ports import FaultReporter, ModelContents
from domains.session.records import KeptMessage
from domains.session.types import OnDisconnect, SessionKind, SessionState, WorkOptions
from domains.session.views import EVERYONE, Viewer
from domains.values import PlacementDecision

# Of all sessions together, some twenty megabytes; beyond it the oldest that have ended give
# up their progress.
_MOST_ENTRIES = 50_000


class Sessions:
    """The registry of sessions and the queues they wait in.

    Args:
        describe: What a client sees of an error.
        queue_length: Sessions that may wait for one device.
        slice_seconds: How long a session works while another client's waits.
        retention: How long a final session is kept.
        kept: Most final sessions kept; older ones go first.
        changes: Shows what happens to sessions to those who watch all of them.
        clock: The time.
        admit: Raises the error of work that must not begin now: it is refused, and waits where
            it was accepted before.
        holds: Whether a device's worker holds a model.
        keeping: Writes sessions down; without it they end with the server.
        models: What models are made of, once the system runs.
    """

    def __init__(
        self,
        *,
        describe: FaultReporter,
        queue_length: int,
        slice_seconds: float,
        retention: timedelta,
        kept: int,
        changes: SessionChanges,
        clock: Clock,
        admit: Callable[[SessionPlan | Session], None] = lambda work: None,
        holds: Callable[[str, str], bool] = lambda device_id, model_id: True,
        keeping: Keeping | None = None,
        models: Callable[[], ModelContents] | None = None,
    ) -> None:
        self._keeping = keeping
        self._admit, self._describe = admit, describe
        self._queue_length, self._slice_seconds = queue_length, slice_seconds
        self._retention, self._kept = retention, kept
        self._clock, self.changes = clock, changes
        self._sessions: dict[str, Session] = {}
        self._children: dict[str, dict[str, Session]] = {}
        self._by_request_id: dict[tuple[str, str], tuple[Session, bytes]] = {}
        self._ended: dict[str, Callable[[Session], None]] = {}
        self._queues = Queues(self._make_queue, queue_length)
        self.contents = AcceptedContents(models)
        self.needed = NeededArtifacts(self._sessions, self._children)
        """What those that have not ended need of what is kept."""
        self.unfinished: list[tuple[Session, KeptMessage]] = []
        """Of an earlier server, and what they are to be begun anew from."""
        self.closed = False
        """Whether no new sessions are taken."""
        self.speeds = Speeds()
        """How long work took on each device."""
        self._remaining = Remaining(self.speeds, holds)
        self.waits_again: Callable[[str], None] = lambda device_id: None
        """Called with the device of one that is resumed or lost its turn, before its next one
        can come."""

    # Life of the registry.

    def recall(self) -> None:
        """Remember the sessions of an earlier server; to be called once, before any other."""
        if self._keeping is None:
            return
        for each in self._keeping.remembered(self._retention, self._note_change):
            self._know(each.session, each.digest)
            self.changes.note(each.session)
            if each.message is not None and not each.session.state.final:
                self.unfinished.append((each.session, each.message))

    async def recalled(self) -> None:
        """Return once it is written down with which numbers recalled sessions go on: what
        clients see from now on, no later server gives out again, however short this one lives.
        """
        for session, _ in self.unfinished:
            await self.settled(session)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new sessions, wait for running ones, then end what is left."""
        self.closed = True
        for session, _ in self.unfinished:  # this server has not come to them
            session.suspend()
        for session in self._live():
            if session.state in (SessionState.QUEUED, SessionState.PAUSED):
                self.end_with_server(session)
        waited = 0.0
        # What only starts other sessions may have no end of its own before all of those have.
        while any(each.device_id for each in self._live()) and waited < grace_seconds:
            await asyncio.sleep(0.05)
            waited += 0.05
        for session in self._live():
            self.end_with_server(session)
        for queue in self._queues.all():
            await queue.stop()
        for session in self._live():
            session.cancel()

    def end_with_server(self, session: Session) -> None:
        """The server ends: the next one goes on with what does not hang on a stream of this."""
        detached = session.options.on_disconnect is OnDisconnect.DETACH
        if session.about.repeats and detached and self._keeping is not None:
            session.suspend()
        else:
            session.request_cancel(Reason.SHUTTING_DOWN)

    def _live(self) -> list[Session]:
        """Those with which something may still happen here."""
        return [
            session
            for session in self._sessions.values()
            if not session.state.final and not session.suspended
        ]

    async def sweep(self) -> None:
        """End expired sessions and forget old ones; to be called twice a second."""
        for queue in self._queues.all():
            queue.expire()
        self.forget_expired()

    def forget_expired(self) -> None:
        """Forget final sessions past their retention or their number, and old progress.

        Those of steps and items are counted by themselves: a batch of thousands costs nobody
        else's sessions, nor its own. Those of a run that goes on are not forgotten.
        """
        final = [session for session in self._sessions.values() if session.state.final]
        forgettable = [session for session in final if not self._is_of_a_run(session)]
        for part in (True, False):
            kind = [each for each in forgettable if bool(each.parent_session_id) is part]
            excess = len(kind) - self._kept
            for rank, session in enumerate(kind):
                if not session.followers and (rank < excess or session.expired):
                    self.forget(session)
        entries = sum(len(session.log) for session in self._sessions.values())
        for session in final:
            if entries <= _MOST_ENTRIES:
                break
            before = len(session.log)
            session.log.condense()
            entries -= before - len(session.log)

    def _is_of_a_run(self, session: Session) -> bool:
        """Whether a workflow that has not ended knows by it what is done."""
        above = self._sessions.get(session.parent_session_id)
        while above is not None:
            if above.kind is SessionKind.WORKFLOW and not above.state.final:
                return True
            above = self._sessions.get(above.parent_session_id)
        return False

    def forget(self, session: Session) -> None:
        """Forget a final session now."""
        del self._sessions[session.session_id]
        siblings = self._children.get(session.parent_session_id, {})
        siblings.pop(session.session_id, None)
        if not siblings:
            self._children.pop(session.parent_session_id, None)
        self._queues.forget(session)
        self._by_request_id.pop((session.owner, session.options.request_id), None)
        self.changes.remove(session)
        if self._keeping is not None:
            self._keeping.forget(session)

    # Opening.

    def queue(self, device_id: str) -> DeviceQueue:
        """The queue of a device, made at first need."""
        return self._queues.of_device(device_id)

    def _make_queue(self, name: str) -> DeviceQueue:
        return DeviceQueue(
            name,
            length=self._queue_length,
            describe=self._describe,
            remaining=self._remaining,
            slice_seconds=self._slice_seconds,
            clock=self._clock,
            admit=self._admit,
            leave=lambda device_id: self.waits_again(device_id),
        )

    def known(self, request: SessionRequest) -> Session | None:
        """The session that an earlier call of the same client with this request_id opened.

        Raises:
            RequestIdReused: That call was another request.
        """
        request_id = request.options.request_id
        session, digest = self._by_request_id.get((request.owner, request_id), (None, b""))
        if session is not None and digest != request.digest:
            raise RequestIdReused(request_id, session.session_id)
        return session

    def open(self, plan: SessionPlan, turn: Turn, request: SessionRequest) -> Session:
        """Accept work: the session is in its device's queue when this returns. It may be told
        of once `accepted` has returned, and its turn does not come before that.

        Args:
            plan: What the session shall be.
            turn: Called when the session's turn comes.
            request: What asked for it.

        Raises:
            QueueFull: The device's queue has no room; nothing is kept.
            ShuttingDown: The server takes no new work.
            DomainError: Whatever forbids the work now.
        """
        if self.closed:
            raise ShuttingDown()
        self._admit(plan)
        above = self._sessions.get(request.parent.session_id)
        session = Session(
            request.about(plan, str(uuid.uuid4()), None if above is None else above.about),
            request.options,
            placed=plan.placed or Placed(PlacementDecision.named(plan.device_id)),
            done=Progress(plan.total_steps, len(plan.seeds)),
            retention=self._retention,
            clock=self._clock,
            changed=self._note_change,
        )
        self._queues.submit(session, turn, plan.queue or plan.device_id)
        session.log.append(entries.accepted(session, plan))
        if plan.ended is not None:
            self._ended[session.session_id] = plan.ended
        self._know(session, request.digest)
        self.changes.note(session)
        if self._keeping is not None:
            written = partial(self._note_written, session)
            noted = partial(self.contents.note, session)
            self._keeping.accept(session, request.digest, request.message, noted, written)
        return session

    def take_up(self, session: Session, plan: SessionPlan, turn: Turn) -> None:
        """Have a session that an earlier server accepted wait for its turn, as it was resolved
        anew; it goes on as it was, or its work starts over."""
        about = resolved_about(session.about, plan, repeats=True)
        placed = plan.placed or Placed(PlacementDecision.named(plan.device_id))
        if not plan.resumes_after_images:
            session.images = ()
            session.log.drop_results()
        session.take_up(about, placed, Progress(plan.total_steps, len(plan.seeds)))
        self._queues.submit(session, turn, plan.queue or plan.device_id, returns=True)
        if plan.ended is not None:
            self._ended[session.session_id] = plan.ended

    def go_on(self, session: Session) -> None:
        """Its turn may come."""
        session.held = False
        self._reorder(session)

    async def accepted(self, session: Session) -> None:
        """Return once a session outlives the server.

        Raises:
            DomainError: It cannot be written down; it is forgotten.
        """
        if self._keeping is not None:
            await self._keeping.accepted(session)

    async def settled(self, session: Session) -> None:
        """Return once what became of a session, or that it is forgotten, outlives the server,
        or was not taken by the disk, which is tried again."""
        if self._keeping is not None:
            await self._keeping.settled(session)

    def _note_written(self, session: Session) -> None:
        self._reorder(session)
        if session.held:
            self.forget(session)

    def _know(self, session: Session, digest: bytes) -> None:
        self._sessions[session.session_id] = session
        self.needed.note(session)
        if session.parent_session_id:
            siblings = self._children.setdefault(session.parent_session_id, {})
            siblings[session.session_id] = session
        if session.options.request_id:
            key = session.owner, session.options.request_id
            self._by_request_id[key] = (session, digest)

    def _note_change(self, session: Session) -> None:
        self.changes.note(session)
        if session.log.terminal is None:
            if self._keeping is not None:
                self._keeping.note_turn(session)
            return
        self._queues.leave(session)
        ended = self._ended.pop(session.session_id, None)  # it ends once, and then lets go
        if ended is not None:
            ended(session)
        if self._keeping is not None:
            self._keeping.note(session)

    def move_waiting(self, device_id: str) -> None:
        """Place anew what waits for a device that is out of use and may run on another one.

        What finds no other device, or no room there, stays.
        """
        queue = self.queue(device_id)
        for session in queue.waiting():
            decision = session.placed_again()
            if decision is None or session.state.final:
                continue
            other = self.queue(decision.device_id)
            if other is not queue and other.has_room_for(session.owner):
                turn = queue.withdraw(session)
                session.move(decision)
                other.submit(session, turn)
                self._queues.move(session, other)

    # Finding.

    def get(self, session_id: str, viewer: Viewer = EVERYONE) -> Session:
        """The session.

        Args:
            session_id: Which.
            viewer: Who asks; what they may not see does not exist for them.

        Raises:
            SessionNotFound: There is none of that id.
        """
        session = self._sessions.get(session_id)
        if session is None or not viewer.sees(session.owner):
            raise SessionNotFound(session_id)
        return session

    def children(self, session_id: str) -> list[Session]:
        """Those that are a step or an item of that session and are kept, oldest first."""
        return list(self._children.get(session_id, {}).values())

    def all(self) -> Sequence[Session]:
        """Every session that is kept, oldest first."""
        return tuple(self._sessions.values())

    # Changing. Whether a session's state allows it has been asked before.

    def pause(self, session: Session, reason_text: str, paused_by: str) -> None:
        """Stop one that waits or runs so that it can be resumed."""
        session.request_pause(reason_text, paused_by)
        self._reorder(session)

    def resume(self, session: Session, resumed_by: str) -> None:
        """Let a paused one wait for its turn again."""
        session.resume(resumed_by)
        self.waits_again(session.device_id)
        self._reorder(session)

    def update(self, session: Session, options: WorkOptions) -> None:
        """Give a session other options; its place in the queue is as they say."""
        session.update(options)
        if self._keeping is not None and not session.state.final:
            self._keeping.note(session)
        self._reorder(session)

    def _reorder(self, session: Session) -> None:
        queue = self._queues.of_session(session)
        if queue is not None:
            queue.reorder(session)
