"""Calls that end before their answer: what they began is done whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from domains.errors import DomainError, Reason
from domains.processing.batches.types import ItemWork
from domains.session.types import SessionState
from tests.clocks import SteeredTime
from tests.domains.processing.batches.conftest import Disk, Place, place
from tests.domains.processing.batches.test_batches import (
    COMPLETED,
    MARY,
    batch_of,
    begin,
    ended,
    until,
)

_LAST = 25
"""Turns of the loop in which a call is done here; the tests say so."""


async def dropped(call: Coroutine[object, object, object], after: int) -> bool:
    """A call whose client hangs up after so many turns of the loop; whether it was still at
    work then."""
    task = asyncio.create_task(call)
    for _ in range(after):
        await asyncio.sleep(0)
    at_work = task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return at_work


@pytest.mark.parametrize("after", range(1, _LAST))
async def test_a_batch_whose_retry_was_dropped_ends(here: Place, after: int) -> None:
    batch = await begin(here, batch_of("fail:1", ""))
    await ended(here, batch.batch_id)
    await dropped(here.control.retry(batch.batch_id, (), MARY), after)
    found = await ended(here, batch.batch_id)
    known = here.batches.get(batch.batch_id, MARY)
    assert (found.state, known.awaiting) == (COMPLETED, False)
    # It never began, or it was done.
    assert found.completed == (1 if found.session_id == batch.session_id else 2)


async def test_a_retry_is_dropped_at_each_of_its_steps(here: Place) -> None:
    """The tests have it dropped from its first one to its last one."""
    at_work = []
    for after in (1, _LAST - 1):
        batch = await begin(here, batch_of("fail:1", ""))
        await ended(here, batch.batch_id)
        at_work.append(await dropped(here.control.retry(batch.batch_id, (), MARY), after))
        await ended(here, batch.batch_id)
    assert at_work == [True, False]


@pytest.mark.parametrize("after", range(1, _LAST))
async def test_items_of_a_dropped_call_are_all_there_and_run_or_none_is(
    here: Place, after: int
) -> None:
    batch = await begin(here, batch_of("", keep_open=True))
    known = here.batches.get(batch.batch_id, MARY)
    await until(lambda: known.items.all_ended)
    more = (ItemWork("more", b"", "items[0]"), ItemWork("last", b"", "items[1]"))
    await dropped(here.control.add(batch.batch_id, more, MARY, seal=True), after)
    if not known.sealed:
        assert (len(known.items), len(here.disks[1].records)) == (1, 1)
        assert known.session.state is SessionState.RUNNING
        await here.control.add(batch.batch_id, more, MARY, seal=True)
    found = await ended(here, batch.batch_id)
    assert (found.state, found.completed) == (COMPLETED, 3)


class JournalDisk(Disk):
    """Takes its time, and writes what was handed in whatever becomes of who waits."""

    async def accept(self, key: str, body: bytes) -> None:
        self._write(key, body)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("rows", [0, 1])
async def test_nothing_is_kept_of_a_batch_that_is_cancelled_while_it_is_written(
    clock: SteeredTime, rows: int
) -> None:
    here = place(clock, disks=(JournalDisk(), JournalDisk()))
    session = await here.runner.begin(here.batches.create(batch_of("", "")))
    await until(lambda: bool(here.disks[1].records) and len(here.disks[0].records) == rows)
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    with pytest.raises(DomainError):
        await here.batches.made(session)
    assert [disk.records for disk in here.disks] == [{}, {}]
    later = place(clock, here.sessions, here.disks)
    later.batches.recall()
    assert later.batches.newest_first(MARY) == []
    await here.sessions.stop(0)


async def test_the_next_server_has_no_items_that_this_one_does_not_know(
    clock: SteeredTime,
) -> None:
    here = place(clock, disks=(Disk(), JournalDisk()))
    batch = await begin(here, batch_of("slow", keep_open=True))
    more = (ItemWork("more", b"slow", "items[0]"), ItemWork("last", b"slow", "items[1]"))
    assert await dropped(here.control.add(batch.batch_id, more, MARY, seal=False), 6)
    known = here.batches.get(batch.batch_id, MARY)
    later = place(clock, here.sessions, here.disks)
    later.batches.recall()
    recalled = later.batches.get(batch.batch_id, MARY)
    assert recalled.items.all == known.items.all
    here.craft.gate.set()
    await here.sessions.stop(0)
