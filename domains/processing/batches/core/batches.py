"""Every batch this server knows: made, found, worked off, forgotten."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from msgspec import structs

from domains.codec import one_line
from domains.errors import DomainError, FieldViolation, InvalidArgument, Reason
from domains.processing.batches.core.batch import Batch
from domains.processing.batches.core.rules import broken_batch, name_devices, no_items
from domains.processing.batches.core.run import BatchRun, Means
from domains.processing.batches.errors import BatchForgotten, BatchNotFound, BatchQuotaExceeded
from domains.processing.batches.ports import BatchNames, Templates
from domains.processing.batches.types import (
    MOST_ITEMS,
    BatchRecord,
    BatchRequest,
    ItemRecord,
    ItemWork,
    Settled,
)
from domains.session.core.entries import raise_for_end
from domains.session.core.plan import Decided, SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.errors import SessionNotFound, ShuttingDown
from domains.session.types import (
    Cancelled,
    Failed,
    OnDisconnect,
    Outcome,
    Phase,
    SessionKind,
)
from domains.session.views import Viewer

MOST_BYTES = 1 << 26
"""Of the requests that one client's batches hold."""
_Checked = tuple[Sequence[ItemWork], Sequence[Settled]]


class Batches:
    """Makes batches, has them worked off, and knows them as long as their sessions are kept.

    A batch is its session: that is on disk before anything of the batch is, and the same
    request_id finds it. The first thing that its work does is to write down the items.

    Args:
        means: What batches are worked off with.
        templates: Reads the template in a batch's request.
        names: What batches name of what the server keeps.
    """

    def __init__(self, means: Means, templates: Templates, names: BatchNames) -> None:
        self._means, self._templates, self.names = means, templates, names
        self._batches: dict[str, Batch] = {}
        self._of_sessions: dict[str, Batch] = {}
        self._number = 0

    def recall(self) -> None:
        """Know the batches of an earlier server; to be called before any session goes on."""
        for record, items in self._means.shelf.found():
            self._number = max(self._number, record.number)
            self._know(self._batch(record, items))

    # Making.

    def create(self, request: BatchRequest) -> SessionRequest:
        """A new batch as the session that works it off.

        Preparing it raises:
            InvalidArgument: The batch or one of its items breaks rules.
            BatchQuotaExceeded: The client's batches hold too much.
            DomainError: A device or model cannot be used, or something is not built.
        """
        options = replace(request.options, on_disconnect=OnDisconnect.DETACH)

        async def prepare() -> SessionPlan:
            return self._plan(partial(self._lay_out, request, await self._checked(request)))

        async def again(decided: Decided) -> SessionPlan:
            return self._plan(partial(self._lay_out, request, None))

        return SessionRequest(options, request.digest, prepare, again=again)

    def go_on(self, batch_id: str) -> SessionRequest:
        """A batch that has ended as another session, which works off what is to run again."""

        async def prepare() -> SessionPlan:
            return self._plan(partial(self._take_over, self._known(batch_id)))

        batch = self._known(batch_id)
        options = replace(batch.session.options, request_id="")
        return SessionRequest(
            options, batch_id.encode(), prepare, batch.owner, again=begun_anew(prepare)
        )

    def _plan(self, batch_of: Callable[[Session], Awaitable[Batch]]) -> SessionPlan:
        async def work(session: Session) -> Outcome:
            batch = self._of_sessions.get(session.session_id) or await batch_of(session)
            batch.closing = False
            return await BatchRun(batch, session, self._means).work()

        return SessionPlan(
            kind=SessionKind.BATCH,
            device_id="",
            expected_phases=(Phase.RUNNING_STEPS,),
            work=work,
            pause=self._wake,
            ended=self._ended,
            resumes_after_images=True,
        )

    async def made(self, session: Session) -> Batch:
        """The batch of a session that was just begun, or found by its request_id, once it is on
        disk.

        Raises:
            BatchNotFound: It is about to be forgotten.
            BatchForgotten: It was, and is not any more.
            DomainError: It could not be written down, or was cancelled before that.
        """
        while session.session_id not in self._of_sessions:
            raise_for_end(session)
            if session.state.final:
                raise BatchForgotten(session.session_id)
            if session.suspended:
                raise ShuttingDown()
            await session.log.change().wait()
        return self._known(self._of_sessions[session.session_id].batch_id)

    async def _checked(self, request: BatchRequest) -> _Checked:
        InvalidArgument.check(*broken_batch(request))
        template = self._templates(request.template)
        works = [*request.items, *template.combinations()]
        settled = await template.check(works)
        if not works and not request.keep_open:
            raise InvalidArgument.of(no_items())
        try:
            await self._means.devices.matching(request.manner.devices)
        except DomainError as error:
            name_devices(error)
            raise
        return works, settled

    async def _lay_out(
        self, request: BatchRequest, checked: _Checked | None, session: Session
    ) -> Batch:
        works, settled = checked or await self._checked(request)
        self._number += 1
        record = BatchRecord(
            batch_id=str(uuid.uuid4()),
            owner=session.owner,
            session_id=session.session_id,
            template=request.template,
            sealed=not request.keep_open,
            create_time=session.create_time,
            number=self._number,
            manner=request.manner,
        )
        items = new_items(record.batch_id, 0, works, settled)
        self.check_quota(session.owner, len(request.template), works)
        await self._means.shelf.accept(items, record)
        batch = self._batch(record, items)
        self._know(batch)
        session.log.wake()
        return batch

    def _batch(self, record: BatchRecord, items: Iterable[ItemRecord]) -> Batch:
        batch = Batch(record, self._means.sessions.get, self._templates, self.names)
        for item in items:
            batch.add(item)
        return batch

    async def _take_over(self, batch: Batch, session: Session) -> Batch:
        """Another session works a batch off from now on."""
        first = batch.record.first_session_id or batch.record.session_id
        if batch.record.session_id != first:
            self._of_sessions.pop(batch.record.session_id, None)
        batch.record = structs.replace(
            batch.record,
            session_id=session.session_id,
            first_session_id=first,
            end_reason="",
            sealed=True,
        )
        await self._means.shelf.put_batch(batch.record)
        self._know(batch)
        session.log.wake()
        return batch

    def check_quota(self, owner: str, template_bytes: int, works: Sequence[ItemWork]) -> None:
        """Whether a client's batches may hold these as well.

        Raises:
            BatchQuotaExceeded: They may not.
        """
        held = sum(each.held_bytes for each in self._batches.values() if each.owner == owner)
        held += template_bytes + sum(work.held_bytes for work in works)
        if held > MOST_BYTES:
            raise BatchQuotaExceeded(held, MOST_BYTES)

    def _know(self, batch: Batch) -> None:
        self._batches[batch.batch_id] = batch
        self._of_sessions |= dict.fromkeys(batch.session_ids, batch)
        if self._stands(batch):  # what its items need, in place of what its request named
            batch.session.about = replace(batch.session.about, named=batch.items.names)
            self._means.sessions.needed.note(batch.session)

    # What becomes of them.

    def _wake(self, session: Session) -> None:
        if batch := self._of_sessions.get(session.session_id):
            batch.wake.set()

    def _ended(self, session: Session) -> None:
        batch = self._of_sessions.get(session.session_id)
        if batch is not None:
            self._settle(batch, session)

    def _settle(self, batch: Batch, session: Session) -> None:
        """Its session is over: whatever of it has not ended has been cancelled."""
        batch.put_away()
        end = session.log.terminal
        for child in self._means.sessions.children(session.session_id):
            child.request_cancel(session.cancel_reason or Reason.DEADLINE_EXPIRED)
        batch.items.release()
        cancelled = batch.items.cancel_waiting()
        if not batch.record.end_reason:
            batch.record = structs.replace(batch.record, end_reason=_why(end))
        self._means.shelf.note(batch.record, cancelled)

    async def sweep(self) -> None:
        """Forget batches whose sessions are forgotten, and settle those whose sessions could
        not be taken up; to be called now and then."""
        for batch in tuple(self._batches.values()):
            if not self._stands(batch):
                await self._forget(batch)
            elif not (batch.awaiting or batch.items.all_ended) and batch.session.state.final:
                self._settle(batch, batch.session)

    async def forget(self, batch: Batch) -> None:
        """Forget a final batch now, and for the next server as well, with its session and the
        one that made it."""
        sessions = [each for each in map(self._session, batch.session_ids) if each is not None]
        for session in sessions:
            self._means.sessions.forget(session)
        for session in sessions:
            await self._means.sessions.settled(session)
        await self._forget(batch)

    async def _forget(self, batch: Batch) -> None:
        if self._batches.pop(batch.batch_id, None) is None:
            return
        for session_id in batch.session_ids:
            self._of_sessions.pop(session_id, None)
        await self._means.shelf.remove(batch.record, batch.items.all)

    # Finding.

    def get(self, batch_id: str, viewer: Viewer) -> Batch:
        """The batch.

        Raises:
            BatchNotFound: There is none of that id for this viewer.
        """
        batch = self._known(batch_id)
        if not viewer.sees(batch.owner):
            raise BatchNotFound(batch_id)
        return batch

    def _known(self, batch_id: str) -> Batch:
        batch = self._batches.get(batch_id)
        if batch is None or not self._stands(batch):
            raise BatchNotFound(batch_id)
        return batch

    def newest_first(self, viewer: Viewer) -> list[Batch]:
        """Those that a viewer may see."""
        return sorted(
            (
                each
                for each in self._batches.values()
                if viewer.sees(each.owner) and self._stands(each)
            ),
            key=lambda each: -each.record.number,
        )

    def _stands(self, batch: Batch) -> bool:
        return self._session(batch.record.session_id) is not None

    def _session(self, session_id: str) -> Session | None:
        """The session; None where it is forgotten."""
        try:
            return self._means.sessions.get(session_id)
        except SessionNotFound:
            return None


def new_items(
    batch_id: str, first: int, works: Sequence[ItemWork], settled: Sequence[Settled]
) -> list[ItemRecord]:
    """Items as they are kept before anything has become of them; `first` is the position of
    the first one.

    Raises:
        InvalidArgument: The batch would have more than it may.
    """
    if first + len(works) > MOST_ITEMS:
        rule = f"Must make a batch of at most {MOST_ITEMS} items, not {first + len(works)}."
        raise InvalidArgument.of(FieldViolation("items", Reason.TOO_MANY_ELEMENTS, rule))
    return [
        ItemRecord(
            batch_id=batch_id,
            position=position,
            item_id=work.item_id,
            overlay=work.overlay,
            image=work.image,
            settled=each,
        )
        for position, (work, each) in enumerate(zip(works, settled, strict=True), first)
    ]


def _why(end: object) -> str:
    """Why a batch ended before all of its items had their turn; empty where they had."""
    if isinstance(end, Failed):
        return one_line(end.failure.message)
    if isinstance(end, Cancelled):
        by = f" by {end.cancelled_by}" if end.cancelled_by else ""
        return one_line(f"It was cancelled{by}. {end.reason_text}".strip())
    return ""
