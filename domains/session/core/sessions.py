"""Every session this server knows: opening, finding, watching, stopping, forgetting."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from domains.errors import Reason
from domains.session.core.queue import DeviceQueue, Work
from domains.session.core.session import Session
from domains.session.errors import (
    EventsExpired,
    RequestIdReused,
    SessionNotFound,
    ShuttingDown,
)
from domains.session.ports import ArtifactReader, FaultReporter
from domains.session.types import (
    Accepted,
    Heartbeat,
    ImageChunk,
    ImageFinished,
    OnDisconnect,
    Passing,
    Phase,
    QueueMoved,
    SessionEvent,
    SessionKind,
    SessionOptions,
    SessionState,
)


@dataclass(frozen=True)
class SessionPlan:
    """What a session shall be, once its request has been resolved.

    `digest` stands for the whole request: the same request_id with another digest is
    refused. `queue` is where it waits, if not in its device's queue.
    """

    kind: SessionKind
    options: SessionOptions
    digest: bytes
    device_id: str
    model_id: str
    expected_phases: tuple[Phase, ...]
    seeds: tuple[int, ...] = ()
    steps: int = 0
    parent_session_id: str = ""
    queue: str = ""


class Sessions:
    """The registry of sessions and the queues they wait in.

    Args:
        artifacts: Where finished pictures are read back from for streams.
        describe: What a client sees of an error.
        queue_length: Sessions that may wait for one device.
        retention: How long a final session is kept.
        kept: Most final sessions kept; older ones go first.
        heartbeat_seconds: Silence after which a stream gets a heartbeat.
        now: The clock, timezone-aware.
        admit: Raises when a plan's work must not begin now, with what its client is told.
    """

    def __init__(
        self,
        artifacts: ArtifactReader,
        *,
        describe: FaultReporter,
        queue_length: int,
        retention: timedelta,
        kept: int,
        heartbeat_seconds: float,
        now: Callable[[], datetime],
        admit: Callable[[SessionPlan], None] = lambda plan: None,
    ) -> None:
        self._artifacts = artifacts
        self._admit = admit
        self._describe = describe
        self._queue_length = queue_length
        self._retention = retention
        self._kept = kept
        self._heartbeat_seconds = heartbeat_seconds
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._by_request_id: dict[str, tuple[Session, bytes]] = {}
        self._queues: dict[str, DeviceQueue] = {}
        self._followers: dict[str, int] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False

    # Life of the registry.

    def start(self) -> None:
        """Begin to end expired and forget old sessions."""
        self._sweeper = asyncio.create_task(self._sweep(), name="session sweeper")

    async def stop(self, grace_seconds: float) -> None:
        """Take no new sessions, wait for running ones, then end what is left."""
        self._closed = True
        for session in self._live():
            if session.state is SessionState.QUEUED:
                session.request_cancel(Reason.SHUTTING_DOWN)
        waited = 0.0
        while self._live() and waited < grace_seconds:
            await asyncio.sleep(0.05)
            waited += 0.05
        for session in self._live():
            session.request_cancel(Reason.SHUTTING_DOWN)
        for queue in self._queues.values():
            await queue.stop()
        for session in self._live():
            session.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    def _live(self) -> list[Session]:
        return [session for session in self._sessions.values() if not session.state.final]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            for queue in self._queues.values():
                queue.expire()
            self.forget_expired()

    def forget_expired(self) -> None:
        """Forget final sessions past their retention or their number."""
        final = [session for session in self._sessions.values() if session.state.final]
        now = self._now()
        excess = len(final) - self._kept
        for rank, session in enumerate(final):
            if self._followers.get(session.session_id):
                continue
            expire = session.expire_time
            if rank < excess or (expire is not None and expire <= now):
                self._forget(session)

    def _forget(self, session: Session) -> None:
        del self._sessions[session.session_id]
        self._by_request_id.pop(session.options.request_id, None)

    # Opening.

    def queue(self, device_id: str) -> DeviceQueue:
        """The queue of a device, made at first need."""
        if device_id not in self._queues:
            self._queues[device_id] = DeviceQueue(
                device_id, length=self._queue_length, describe=self._describe
            )
        return self._queues[device_id]

    def known(self, request_id: str, digest: bytes) -> Session | None:
        """The session an earlier call with this request_id opened.

        Raises:
            RequestIdReused: That call was another request.
        """
        if not request_id or request_id not in self._by_request_id:
            return None
        session, known_digest = self._by_request_id[request_id]
        if known_digest != digest:
            raise RequestIdReused(request_id, session.session_id)
        return session

    def open(self, plan: SessionPlan, work: Work) -> Session:
        """Accept work: the session is in its device's queue when this returns.

        Raises:
            QueueFull: The device's queue has no room; nothing is kept.
            ShuttingDown: The server takes no new work.
            DomainError: Whatever forbids the work now.
        """
        if self._closed:
            raise ShuttingDown()
        self._admit(plan)
        session = Session(
            str(uuid.uuid4()),
            plan.kind,
            plan.options,
            device_id=plan.device_id,
            model_id=plan.model_id,
            total_steps=plan.steps * len(plan.seeds),
            parent_session_id=plan.parent_session_id,
            retention=self._retention,
            now=self._now,
        )
        self.queue(plan.queue or plan.device_id).submit(session, work)
        session.accept(plan.expected_phases, plan.seeds, plan.steps)
        self._sessions[session.session_id] = session
        if plan.options.request_id:
            self._by_request_id[plan.options.request_id] = (session, plan.digest)
        return session

    # Finding.

    def get(self, session_id: str) -> Session:
        """The session.

        Raises:
            SessionNotFound: There is none of that id.
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound(session_id)
        return session

    def all(self) -> Sequence[Session]:
        """Every session that is kept, oldest first."""
        return tuple(self._sessions.values())

    def forget(self, session: Session) -> None:
        """Forget a final session now."""
        self._forget(session)

    # Watching.

    async def follow(
        self, session: Session, *, existing: bool, image_data: bool, previews: bool
    ) -> AsyncGenerator[SessionEvent]:
        """The stream of the call that started the session, from its first entry.

        When the last such stream is dropped, the session is cancelled, unless its options
        say otherwise.
        """
        followed = session.session_id
        self._followers[followed] = self._followers.get(followed, 0) + 1
        try:
            async with aclosing(
                self.events(session, 1, image_data=image_data, previews=previews)
            ) as events:
                async for event in events:
                    if existing and isinstance(event.event, Accepted):
                        event = replace(event, existing=True)
                    yield event
        finally:
            self._followers[followed] -= 1
            if not self._followers[followed]:
                del self._followers[followed]
                if session.options.on_disconnect is OnDisconnect.CANCEL:
                    session.request_cancel(Reason.CLIENT_DISCONNECTED)

    async def events(
        self, session: Session, from_sequence: int, *, image_data: bool, previews: bool
    ) -> AsyncGenerator[SessionEvent]:
        """Entries from `from_sequence` on (0 and 1: all) to the last, with passing events.

        Raises:
            EventsExpired: `from_sequence` is more than one past the newest entry.
        """
        log = session.log
        cursor = max(from_sequence, 1)
        if cursor > log.last_sequence + 1:
            raise EventsExpired(from_sequence, 1, log.last_sequence)
        shown: SessionEvent | None = None
        position = session.queue_position
        while True:
            change = log.change()
            while cursor <= log.last_sequence:
                entry = log.entry(cursor)
                if image_data and isinstance(entry.event, ImageFinished):
                    async with aclosing(self._chunks(entry, entry.event)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                yield entry
                cursor += 1
            if log.terminal is not None:
                return
            if session.queue_position != position:
                position = session.queue_position
                yield self._passing(session, QueueMoved(position))
            if previews and log.preview is not None and log.preview is not shown:
                shown = log.preview
                yield shown
            try:
                async with asyncio.timeout(self._heartbeat_seconds):
                    await change.wait()
            except TimeoutError:
                yield self._passing(session, Heartbeat(session.phase))

    def _passing(self, session: Session, event: Passing) -> SessionEvent:
        return SessionEvent(session.session_id, session.log.last_sequence, self._now(), event)

    async def _chunks(
        self, entry: SessionEvent, finished: ImageFinished
    ) -> AsyncGenerator[SessionEvent]:
        """The picture's file, numbered like the entry before it so that it is resent."""
        offset = 0
        image = finished.image
        async for data in self._artifacts.read(image.artifact_id):
            chunk = ImageChunk(image.image_index, offset, image.size_bytes, data)
            yield SessionEvent(entry.session_id, entry.sequence - 1, entry.event_time, chunk)
            offset += len(data)
