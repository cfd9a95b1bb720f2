"""What clients do with batches that are there: look at them, add items, stop, run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from msgspec import structs

from domains import checks
from domains.errors import InvalidArgument
from domains.finishing import finishing
from domains.limits import LIMITS
from domains.paging import Page, checked_size, paginate_growing, paginate_newest_first
from domains.processing.batches.core.batch import Batch
from domains.processing.batches.core.batches import Batches, new_items
from domains.processing.batches.core.rules import broken_items
from domains.processing.batches.core.run import Means
from domains.processing.batches.errors import BatchConflict, BatchNotFound, ItemIdTaken
from domains.processing.batches.ports import Templates
from domains.processing.batches.types import BatchStatus, ItemRecord, ItemStatus, ItemWork
from domains.processing.core.control import SessionControl
from domains.processing.core.filters import broken_reason
from domains.processing.errors import StateConflict
from domains.session.core.plan import SessionRequest
from domains.session.types import SessionState
from domains.session.types.named import NameCounts
from domains.session.views import Viewer

_ADDED = LIMITS["AddBatchItemsRequest.items"]
_RETRIED = LIMITS["RetryBatchItemsRequest.item_ids"]
_AGAIN = (SessionState.FAILED, SessionState.CANCELLED)


@dataclass(frozen=True)
class BatchFilter:
    """Which batches; everything that is set must hold."""

    states: frozenset[SessionState] = frozenset()
    owner: str = ""
    tags: tuple[str, ...] = ()

    def accepts(self, batch: Batch) -> bool:
        """Whether a batch is one of those meant, as it stands."""
        session = batch.session
        return (
            (not self.states or session.state in self.states)
            and self.owner in ("", batch.owner)
            and set(self.tags) <= set(session.options.tags)
        )


class BatchControl:
    """Changes and shows batches, for callers who may see them.

    Args:
        batches: All of them.
        sessions: Pauses, resumes and cancels their sessions.
        means: What they are worked off with.
        templates: Reads the template in a batch's request.
        go_on: A batch that has ended as the session that works off what is to run again.
    """

    def __init__(
        self,
        batches: Batches,
        sessions: SessionControl,
        means: Means,
        templates: Templates,
        go_on: Callable[[str], SessionRequest],
    ) -> None:
        self._batches, self._sessions, self._means = batches, sessions, means
        self._templates, self._go_on = templates, go_on

    # Looking.

    def list(
        self, wanted: BatchFilter, viewer: Viewer, *, page_size: int, page_token: str
    ) -> Page[BatchStatus]:
        """Batches, newest first.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE, TOO_MANY_ELEMENTS,
                TEXT_TOO_LONG, TEXT_INVALID or NAME_INVALID.
        """
        tags = checks.lines("tags", wanted.tags, LIMITS["ListBatchesRequest.tags"])
        InvalidArgument.check(
            *tags, checks.name("owner", wanted.owner) if wanted.owner else None
        )
        states = sorted(state.value for state in wanted.states)
        page = paginate_newest_first(
            [each for each in self._batches.newest_first(viewer) if wanted.accepts(each)],
            lambda each: each.record.number,
            page_size=page_size,
            page_token=page_token,
            scope=f"batches {viewer.name} {states} {wanted.owner!r} {wanted.tags!r}",
        )
        return page.mapped(lambda each: each.status(viewer))

    async def get(
        self,
        batch_id: str,
        viewer: Viewer,
        states: frozenset[SessionState],
        *,
        page_size: int,
        page_token: str,
    ) -> tuple[BatchStatus, Page[ItemStatus]]:
        """A batch, and a page of its items in the order in which they were added; once it is
        on disk that the batch is paused or final, where it is.

        Raises:
            BatchNotFound: There is none of that id for this caller.
            InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE.
        """
        checked_size(page_size)
        batch = self._batches.get(batch_id, viewer)
        named = sorted(state.value for state in states)
        page = paginate_growing(
            batch.items.all,
            lambda record: not states or batch.item_state(record) in states,
            page_size=page_size,
            page_token=page_token,
            scope=f"batch {batch_id} {named}",
        )
        answer = batch.status(viewer), page.mapped(batch.item_status)
        await self._means.sessions.settled(batch.session)
        return answer

    # Items.

    async def add(
        self, batch_id: str, works: Sequence[ItemWork], viewer: Viewer, *, seal: bool
    ) -> BatchStatus:
        """Add items; those that are there with the same content already are left alone.

        Raises:
            InvalidArgument: An item breaks a rule.
            BatchNotFound: There is no batch of that id for this caller.
            BatchConflict: It is sealed, and this would change it.
            ItemIdTaken: Another item has the name of one of them.
            DomainError: Whatever forbids one of them, or the disk does not take them.
        """
        InvalidArgument.check(*broken_items(works, _ADDED))
        try:
            batch = self._batches.get(batch_id, viewer)
        except BatchNotFound:
            if works:  # what is wrong with them by themselves is told all the same
                await self._templates(b"").check(works)
            raise
        async with batch.changing:
            new = _new(batch, works)
            closed = batch.sealed or batch.session.cancel_reason is not None
            if closed and (new or not (works or seal)):
                raise BatchConflict(batch_id, "The batch is sealed: make another one.")
            with self._held(batch, new):
                settled = await batch.template.check(new) if new else ()
                self._batches.check_quota(batch.owner, 0, new)
                items = new_items(batch_id, len(batch.items), new, settled)
                await self._take_in(batch, items, seal=seal)
        return batch.status(viewer)

    @finishing  # its session hears of what is on disk, also where nobody waits for the answer
    async def _take_in(self, batch: Batch, items: Sequence[ItemRecord], *, seal: bool) -> None:
        await self._means.shelf.accept(items, None)
        for item in items:
            batch.add(item)
        while seal and not batch.record.sealed:
            before = batch.record
            sealed = structs.replace(before, sealed=True)
            await self._means.shelf.put_batch(sealed)
            if batch.record is before:  # else its run has written another one over this
                batch.record = sealed
        batch.wake.set()

    def _held(self, batch: Batch, works: Sequence[ItemWork]) -> AbstractContextManager[None]:
        """What items name that are about to be added stays until they have been."""
        names = NameCounts()
        for work in works:
            names.add(self._batches.names.of_item(work))
        return self._means.sessions.needed.held(batch.owner, names)

    async def retry(
        self, batch_id: str, item_ids: Sequence[str], viewer: Viewer
    ) -> tuple[BatchStatus, int]:
        """Have items run again: those named, or all that failed.

        Returns:
            The batch, and how many run again.

        Raises:
            InvalidArgument: TOO_MANY_ELEMENTS.
            BatchNotFound: There is no batch of that id for this caller.
            BatchConflict: One of those named did not fail and was not cancelled.
            DomainError: There is no room for another session, or the disk does not take it.
        """
        InvalidArgument.check(checks.elements("item_ids", len(item_ids), _RETRIED))
        batch = self._batches.get(batch_id, viewer)
        async with batch.changing:
            positions = _to_run_again(batch, item_ids)
            if batch.closing:
                await batch.session.over()
            if batch.session.state is SessionState.CANCELLING:
                raise StateConflict(batch.session.session_id, batch.session.state, "retried")
            await self._run_again(batch, positions)
        return batch.status(viewer), len(positions)

    @finishing  # a session that waits for items must get them, whoever has hung up
    async def _run_again(self, batch: Batch, positions: Sequence[int]) -> None:
        try:
            if positions and batch.session.state.final:
                await self._restart(batch)
            if again := [batch.items.again(position) for position in positions]:
                # What failed before would cancel them at once.
                failed = batch.items.count(SessionState.FAILED)
                batch.record = structs.replace(
                    batch.record, end_reason="", failures_before=failed
                )
                await self._means.shelf.put_batch(batch.record, again)
        finally:
            batch.awaiting = False
            batch.wake.set()

    async def _restart(self, batch: Batch) -> None:
        """Begin another session for a batch that has ended; it waits for what is to come."""
        batch.awaiting = True
        session = await self._means.runner.begin(self._go_on(batch.batch_id))
        await self._batches.made(session)

    # Stopping.

    async def pause(self, batch_id: str, viewer: Viewer, reason_text: str) -> BatchStatus:
        """Stop it after the steps of now.

        Raises:
            BatchNotFound: There is none of that id for this caller.
            StateConflict: It is final or being cancelled.
            InvalidArgument: TEXT_TOO_LONG or TEXT_INVALID for the reason.
        """
        InvalidArgument.check(broken_reason(reason_text))
        batch = self._batches.get(batch_id, viewer)
        self._sessions.pause(batch.record.session_id, viewer, reason_text)
        await self._means.sessions.settled(batch.session)
        return batch.status(viewer)

    async def resume(self, batch_id: str, viewer: Viewer) -> BatchStatus:
        """Go on with a paused one.

        Raises:
            BatchNotFound: There is none of that id for this caller.
            StateConflict: It is not paused.
        """
        batch = self._batches.get(batch_id, viewer)
        self._sessions.resume(batch.record.session_id, viewer)
        await self._means.sessions.settled(batch.session)
        return batch.status(viewer)

    async def cancel(self, batch_id: str, viewer: Viewer, reason_text: str) -> BatchStatus:
        """Cancel what is left of it; one that is final stays as it is.

        Raises:
            BatchNotFound: There is none of that id for this caller.
            InvalidArgument: TEXT_TOO_LONG or TEXT_INVALID for the reason.
        """
        InvalidArgument.check(broken_reason(reason_text))
        batch = self._batches.get(batch_id, viewer)
        self._sessions.cancel(batch.record.session_id, viewer, reason_text)
        await self._means.sessions.settled(batch.session)
        return batch.status(viewer)

    async def delete(self, batch_id: str, viewer: Viewer) -> None:
        """Forget a final batch.

        Raises:
            BatchNotFound: There is none of that id for this caller.
            StateConflict: It is not final.
        """
        batch = self._batches.get(batch_id, viewer)
        if not batch.session.state.final or batch.changing.locked():
            raise StateConflict(batch.session.session_id, batch.session.state, "deleted")
        await self._batches.forget(batch)


def _new(batch: Batch, works: Iterable[ItemWork]) -> list[ItemWork]:
    """Those that are not there yet."""
    new = []
    for work in works:
        there = batch.items.find(work.item_id)
        if there is None:
            new.append(work)
        elif (there.overlay, there.image) != (work.overlay, work.image):
            raise ItemIdTaken(work.item_id, work.path)
    return new


def _to_run_again(batch: Batch, item_ids: Sequence[str]) -> list[int]:
    if not item_ids:
        return [each.position for each in batch.items.all if each.state is SessionState.FAILED]
    found: dict[int, None] = {}
    for item_id in item_ids:
        record = batch.items.find(item_id)
        if record is None:
            raise BatchConflict(batch.batch_id, f"The batch has no item {item_id!r}.")
        if record.state not in _AGAIN:
            raise BatchConflict(
                batch.batch_id, f"Item {item_id!r} has neither failed nor been cancelled."
            )
        found[record.position] = None
    return list(found)
