"""Batches on disk: one row for each, and one for each of their items."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain

from domains import failpoints
from domains.codec import Malformed, decode, encode
from domains.errors import DataLoss, Reason
from domains.processing.batches.types import BatchRecord, ItemRecord, Settled
from domains.records import Records
from domains.session.types import SessionState

_log = logging.getLogger("deviceops.batches")


class Shelf:
    """Keeps batches beyond the server's life.

    Args:
        batches: Their records.
        items: Those of their items.
    """

    def __init__(self, batches: Records, items: Records) -> None:
        self._batches, self._items = batches, items

    def found(self) -> Iterator[tuple[BatchRecord, list[ItemRecord]]]:
        """What an earlier server kept, each with its items in order.

        Items without a batch were never told of: they are kept no more.
        """
        items = defaultdict[str, list[ItemRecord]](list)
        for body in self._items.found().values():
            try:
                item = decode(ItemRecord, body)
            except Malformed as error:  # whoever keeps them looks as well; this is a defect
                _log.error("an item of a batch cannot be remembered: %s", error)
                continue
            items[item.batch_id].append(item)
        for body in self._batches.found().values():
            try:
                batch = decode(BatchRecord, body)
            except Malformed as error:
                _log.error("a batch cannot be remembered: %s", error)
                continue
            yield batch, _whole(batch.batch_id, items.pop(batch.batch_id, []))
        for orphan in chain.from_iterable(items.values()):
            self._items.remove(_key(orphan))

    async def accept(self, items: Iterable[ItemRecord], batch: BatchRecord | None) -> None:
        """Keep new items, and their batch if it is new as well; all of it or nothing.

        Raises:
            DomainError: The disk does not take them.
        """
        records = list(items)
        writing = [self._items.accept(_key(each), encode(each)) for each in records]
        try:
            results = await asyncio.gather(*writing, return_exceptions=True)
            failed = next((each for each in results if isinstance(each, BaseException)), None)
            if failed is not None:
                raise failed
            failpoints.reach("batch.items-written")  # and not the batch
            if batch is not None:
                await self._batches.accept(batch.batch_id, encode(batch))
        except BaseException:  # what was handed in is written, also where nobody waits for it
            if batch is not None:
                self._batches.remove(batch.batch_id)
            for each in records:
                self._items.remove(_key(each))
            raise

    async def put(self, *items: ItemRecord) -> None:
        """Keep items as they are now; returns once that was tried."""
        writing = [self._items.put(_key(each), encode(each)) for each in items]
        await asyncio.gather(*map(asyncio.wrap_future, writing))

    async def put_batch(self, batch: BatchRecord, items: Iterable[ItemRecord] = ()) -> None:
        """Keep a batch and some of its items as they are now; likewise."""
        await asyncio.gather(*map(asyncio.wrap_future, self.note(batch, items)))

    def note(
        self, batch: BatchRecord, items: Iterable[ItemRecord] = ()
    ) -> Sequence[Future[None]]:
        """Keep them as they are now: what comes back is done once that was tried."""
        writing = [self._items.put(_key(each), encode(each)) for each in items]
        return *writing, self._batches.put(batch.batch_id, encode(batch))

    async def remove(self, batch: BatchRecord, items: Iterable[ItemRecord]) -> None:
        """Keep a batch no more; the batch goes first, so that none is ever kept in part."""
        gone = self._batches.remove(batch.batch_id)
        for each in items:
            self._items.remove(_key(each))
        await asyncio.wrap_future(gone)


def _key(item: ItemRecord) -> str:
    return f"{item.batch_id}:{item.position}"


def _whole(batch_id: str, items: list[ItemRecord]) -> list[ItemRecord]:
    """Items in their order; in the place of one whose row was damaged is one that says so."""
    by_position = {each.position: each for each in items}
    return [
        by_position.get(position) or _lost(batch_id, position)
        for position in range(max(by_position, default=-1) + 1)
    ]


def _lost(batch_id: str, position: int) -> ItemRecord:
    error = DataLoss(
        "What the journal held of this item is damaged; add it again.",
        reason=Reason.DATA_CORRUPTED,
    )
    return ItemRecord(
        batch_id=batch_id,
        position=position,
        item_id=f"lost-{position}",
        overlay=b"",
        settled=Settled((), ""),
        state=SessionState.FAILED,
        failure=error.failure(),
    )
