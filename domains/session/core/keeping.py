"""Sessions beyond the server's life: written down, and remembered by the next server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta

from domains import failpoints
from domains.clock import Clock
from domains.codec import Malformed, decode, encode
from domains.errors import DomainError
from domains.heap import without_collections
from domains.records import Records
from domains.session.core.about import About, Parent
from domains.session.core.log import EventLog
from domains.session.core.placed import Placed
from domains.session.core.progress import Progress
from domains.session.core.session import Session
from domains.session.core.times import SessionTimes
from domains.session.errors import Restarted
from domains.session.records import KeptMessage, KeptSession, SessionRecord, kept_entry
from domains.session.turns import Retried
from domains.session.types import (
    Cancelled,
    Completed,
    Failed,
    ImageFinished,
    SessionEvent,
    SessionState,
)
from domains.session.types.named import NOTHING_NAMED, Named

# More than a session has entries: so many numbers may have been given out since its record was
# written.
_UNKNOWN_ENTRIES = 1_000_000_000
_FEW_WRITINGS = 64
_STATES = {
    Completed: SessionState.COMPLETED,
    Failed: SessionState.FAILED,
    Cancelled: SessionState.CANCELLED,
}
_log = logging.getLogger("deviceops.sessions")


@dataclass(frozen=True)
class Remembered:
    """A session of an earlier server; `digest` stands for its request, `message` is that where
    it can be begun anew."""

    session: Session
    digest: bytes
    message: KeptMessage | None


class Keeping:
    """Writes sessions down when they are accepted, when their turns begin, when they pause, and
    when they end; and what is needed to begin them anew for as long as they have not ended.

    Args:
        records: Where they are kept.
        requests: Where it is kept what they are begun anew from.
        earlier: Gives out once what records of an earlier server's sessions are, in the order
            of their acceptance.
        pack: A report as it is kept.
        named: What a request names of what the server keeps.
        clock: The time.
    """

    def __init__(
        self,
        records: Records,
        requests: Records,
        earlier: Callable[[], Iterable[KeptSession]],
        pack: Callable[[object], KeptMessage],
        named: Callable[[KeptMessage], Named],
        clock: Clock,
    ) -> None:
        self._records, self._requests = records, requests
        self._earlier = earlier
        self._pack, self._named, self._clock = pack, named, clock
        self._digests: dict[str, bytes] = {}
        self._with_request: set[str] = set()
        # Of those that are written down, how they stood then.
        self._marks: dict[str, tuple[bool, int]] = {}
        self._accepting: dict[str, asyncio.Task[None]] = {}
        self._writing: dict[str, Future[None]] = {}
        self._look_from = _FEW_WRITINGS

    def accept(
        self,
        session: Session,
        digest: bytes,
        message: KeptMessage | None,
        before: Callable[[], Awaitable[None]],
        done: Callable[[], None],
    ) -> None:
        """Begin to write down that a session was accepted; it is held until then.

        Args:
            session: Which.
            digest: Stands for its request.
            message: What it can be begun anew from.
            before: Notes in the session what is to be written with it; raises nothing.
            done: Called when it is written, or has failed because it cannot be.
        """
        session.held = True
        self._digests[session.session_id] = digest
        task = asyncio.create_task(self._accept(session, message, before, done))
        self._accepting[session.session_id] = task

    async def accepted(self, session: Session) -> None:
        """Return once a session is written down; at once for one that is.

        Raises:
            DomainError: It cannot be written, and is forgotten.
        """
        task = self._accepting.get(session.session_id)
        if task is not None:  # another call may wait for it as well
            await asyncio.shield(task)

    async def _accept(
        self,
        session: Session,
        message: KeptMessage | None,
        before: Callable[[], Awaitable[None]],
        done: Callable[[], None],
    ) -> None:
        await before()
        session_id, mark, body = session.session_id, _mark(session), self._body(session)
        failpoints.reach("session.before-acceptance")
        try:
            if message is None:
                await self._records.accept(session_id, body)
            else:
                self._with_request.add(session_id)
                await asyncio.gather(  # at the same time: it is one transaction
                    self._requests.accept(session_id, encode(message)),
                    self._records.accept(session_id, body),
                )
        except DomainError as error:
            self._drop_request(session)
            session.fail(error.failure())
            raise
        else:
            failpoints.reach("session.accepted")  # and nobody has been told
            session.held = False
            self._marks[session_id] = mark
            if session.state.final or mark != _mark(session):
                self.note(session)
        finally:
            del self._accepting[session.session_id]
            done()

    def note(self, session: Session) -> None:
        """Write a session down as it is now, unless it was not accepted yet."""
        if session.session_id not in self._marks:
            return
        self._marks[session.session_id] = _mark(session)
        if session.state.final:
            failpoints.reach("session.before-end")
        self._await(session, self._records.put(session.session_id, self._body(session)))
        if session.state.final:
            self._drop_request(session)

    def note_turn(self, session: Session) -> None:
        """Write it down if a turn of it began or ended, or it paused or goes on."""
        if self._marks.get(session.session_id) != _mark(session):
            self.note(session)

    def _drop_request(self, session: Session) -> None:
        """It will not be begun anew."""
        if session.session_id in self._with_request:
            self._with_request.remove(session.session_id)
            self._requests.remove(session.session_id)

    def forget(self, session: Session) -> None:
        """Keep nothing of a session."""
        self._digests.pop(session.session_id, None)
        if self._marks.pop(session.session_id, None) is not None:
            self._await(session, self._records.remove(session.session_id))

    def _await(self, session: Session, written: Future[None]) -> None:
        self._writing[session.session_id] = written
        if len(self._writing) >= self._look_from:  # ever more seldom while a disk takes nothing
            self._writing = {
                key: each for key, each in self._writing.items() if not each.done()
            }
            self._look_from = max(2 * len(self._writing), _FEW_WRITINGS)

    async def settled(self, session: Session) -> None:
        """Return once it was tried to write down what was noted of a session, or that it is
        forgotten: what clients are told then does not end with the server, but for a disk that
        takes nothing.
        """
        written = self._writing.get(session.session_id)
        if written is not None and not written.done():
            await asyncio.shield(asyncio.wrap_future(written))

    def remembered(
        self, retention: timedelta, changed: Callable[[Session], None]
    ) -> Iterator[Remembered]:
        """The sessions of an earlier server, oldest first.

        Those that had not ended and can be begun anew are as they were before their turn, and
        held. The others fail now: they were not worked on since.
        """
        with without_collections():  # a third of the time, with thousands
            yield from self._remembered(retention, changed)

    def _remembered(
        self, retention: timedelta, changed: Callable[[Session], None]
    ) -> Iterator[Remembered]:
        requests = dict(self._requests.found())
        for record, events in self._earlier():
            kept = requests.pop(record.session_id, None)
            try:
                message = None if kept is None else decode(KeptMessage, kept)
            except Malformed as error:
                # Of another version; without it, it cannot be begun anew.
                _log.error("what a session is begun anew from cannot be read: %s", error)
                message = None
            named = NOTHING_NAMED if message is None else self._named(message)
            session = self._session(record, named, events, retention, changed)
            self._digests[session.session_id] = record.digest
            self._marks[session.session_id] = _mark(session)
            if kept is not None:
                self._with_request.add(session.session_id)
            if not session.state.final:
                session.log.skip(_UNKNOWN_ENTRIES)
                if message is None:
                    session.fail(Restarted().failure())
                else:
                    session.held = True
                    self.note(session)  # the next server goes on from other numbers
            else:
                self._drop_request(session)
            yield Remembered(session, record.digest, message)
        for session_id in requests:  # of a session that was not accepted
            self._requests.remove(session_id)

    def _session(
        self,
        record: SessionRecord,
        named: Named,
        events: list[SessionEvent],
        retention: timedelta,
        changed: Callable[[Session], None],
    ) -> Session:
        clock = self._clock
        session = Session(
            About(
                record.session_id,
                record.kind,
                record.owner,
                model_id=record.model_id,
                companion_ids=record.companion_ids,
                parent=Parent(record.parent_session_id, record.item_id),
                method=record.method,
                named=named,
                contents=record.contents,
            ),
            record.options,
            placed=Placed(record.placement),
            done=Progress(0, share=record.share),
            retention=retention,
            clock=clock,
            changed=changed,
        )
        session.log = EventLog.remembered(
            record.session_id, clock, events, record.first_sequence, record.last_sequence
        )
        session.times = SessionTimes.remembered(
            clock,
            record.create_time,
            record.start_time,
            record.end_time,
            record.total_seconds,
        )
        session.peak_memory = record.peak_memory
        session.lost = record.lost_turns
        session.retry_count = sum(isinstance(event.event, Retried) for event in events)
        if record.paused:
            session.state, session.phase = SessionState.PAUSED, None
        session.images = tuple(
            event.event.image for event in events if isinstance(event.event, ImageFinished)
        )
        end = session.log.terminal
        if end is not None:
            session.state, session.phase = _STATES[type(end)], None
            session.failure = end.failure if isinstance(end, Failed) else None
        return session

    def _body(self, session: Session) -> bytes:
        events, first = session.log.kept()
        return encode(
            SessionRecord(
                session_id=session.session_id,
                kind=session.kind,
                owner=session.owner,
                digest=self._digests.get(session.session_id, b""),
                options=session.options,
                placement=session.placement,
                model_id=session.model_id,
                companion_ids=session.about.companion_ids,
                parent_session_id=session.parent_session_id,
                item_id=session.about.parent.item_id,
                create_time=session.create_time,
                start_time=session.times.start_time,
                end_time=session.times.end_time,
                total_seconds=session.times.total,
                share=session.done.share,
                peak_memory=session.peak_memory,
                first_sequence=first,
                last_sequence=session.log.last_sequence,
                entries=tuple(kept_entry(event, self._report(event)) for event in events),
                paused=_paused(session),
                lost_turns=session.lost_turns,
                method=session.about.method,
                contents=session.about.contents,
            )
        )

    def _report(self, event: SessionEvent) -> KeptMessage | None:
        report = getattr(event.event, "report", None)
        if report is None or isinstance(report, KeptMessage):
            return report
        return self._pack(report)


def _paused(session: Session) -> bool:
    return session.state is SessionState.PAUSED


def _mark(session: Session) -> tuple[bool, int]:
    return _paused(session), session.lost_turns
