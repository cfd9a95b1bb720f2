"""What comes of a batch's items: written down first, then told."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from domains import failpoints
from domains.errors import Failure
from domains.processing.batches.core.batch import Batch
from domains.processing.batches.core.shelf import Shelf
from domains.processing.batches.types import ItemRecord
from domains.session.core.session import Session
from domains.session.types import (
    Completed,
    ImageFinished,
    ImageResult,
    ItemFinished,
    SessionState,
)

# Of a batch's log, which is in memory and one row of the journal; items are kept by themselves.
_MOST_ENTRIES = 10_000


class Endings:
    """Writes down and tells what attempts came to.

    Args:
        batch: Whose items they are.
        session: The batch's session, whose log tells it.
        shelf: Where items are kept.
        now: The clock that measures.
    """

    def __init__(
        self, batch: Batch, session: Session, shelf: Shelf, now: Callable[[], float]
    ) -> None:
        self._batch, self._items = batch, batch.items
        self._session, self._shelf, self._now = session, shelf, now
        self._began = now() - batch.items.worked_seconds

    async def note(
        self,
        record: ItemRecord,
        state: SessionState,
        child: Session | None,
        images: tuple[ImageResult, ...] = (),
        failure: Failure | None = None,
    ) -> None:
        """An attempt at an item is over, which `child` did if it could begin."""
        after = self._items.after(
            record.position,
            state,
            "" if child is None else child.session_id,
            images,
            failure,
            began=child is None or child.times.start_time is not None,
            worked_seconds=max(self._now() - self._began, 0.0),
        )
        failpoints.reach("batch.item-ended")
        await self._shelf.put(after)
        failpoints.reach("batch.item-written")  # and not told
        self._items.apply(after, self._now())
        if after.state is not SessionState.QUEUED and not self._session.state.final:
            self._tell(after, child)

    def _tell(self, record: ItemRecord, child: Session | None) -> None:
        images = tuple(
            structs.replace(image, item_id=record.item_id) for image in record.images
        )
        for image in images:
            self._session.log.append(ImageFinished(image), record.item_id)
        end = None if child is None else child.log.terminal
        self._session.finish_item(
            ItemFinished(
                record.item_id,
                self._items.ended,
                self._items.count(SessionState.FAILED),
                len(self._items),
                images,
                record.failure,
                degradations=end.degradations if isinstance(end, Completed) else (),
                session_id=record.session_id,
            )
        )
        self._session.log.shorten(_MOST_ENTRIES)
        self.tell_progress()

    def tell_progress(self) -> None:
        """How far the batch is, and how long it will take."""
        items = self._items
        self._session.done.reach(items.ended / len(items) if len(items) else 0.0)
        self._session.expect_end(self._batch.remaining_seconds)
