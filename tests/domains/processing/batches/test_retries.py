"""Batches whose items ran again: how they are found, and how far they go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

import pytest

from domains.errors import DomainError, Reason
from domains.processing.batches.types import BatchRequest, BatchStatus
from domains.session.types import WorkOptions
from tests.clocks import SteeredTime
from tests.domains.processing.batches.conftest import Place, place
from tests.domains.processing.batches.test_batches import MARY, batch_of, begin, ended, until

T = TypeVar("T")


async def soon(answer: Awaitable[T]) -> T:
    async with asyncio.timeout(5):
        return await answer


def named_request() -> BatchRequest:
    options = WorkOptions(request_id="0b9e7cf0-7a53-4f36-9f0a-0dc3a1a9d2aa")
    return replace(batch_of("fail:3", ""), options=options)


async def retried(here: Place, times: int) -> BatchStatus:
    batch = await begin(here, named_request())
    for _ in range(times):
        await ended(here, batch.batch_id)
        await here.control.retry(batch.batch_id, (), MARY)
    return await ended(here, batch.batch_id)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_the_same_request_id_finds_a_batch_that_ran_again(
    here: Place, clock: SteeredTime, times: int
) -> None:
    batch = await retried(here, times)
    assert await soon(begin(here, named_request())) == batch
    later = place(clock, here.sessions, here.disks)
    later.batches.recall()
    assert await soon(begin(later, named_request())) == batch
    assert batch.completed == (2 if times == 3 else 1)


async def test_the_same_request_id_makes_another_batch_once_it_was_deleted(here: Place) -> None:
    batch = await retried(here, 2)
    await here.control.delete(batch.batch_id, MARY)
    again = await soon(begin(here, named_request()))
    assert again.batch_id != batch.batch_id
    await ended(here, again.batch_id)
    assert [each.batch_id for each in here.batches.newest_first(MARY)] == [again.batch_id]


async def test_the_same_request_id_says_that_its_batch_was_forgotten(here: Place) -> None:
    batch = await retried(here, 1)
    here.sessions.forget(here.sessions.get(batch.session_id))
    for _ in ("its session is gone", "it is gone with that"):
        with pytest.raises(DomainError) as refused:
            await soon(begin(here, named_request()))
        assert refused.value.reason is Reason.BATCH_NOT_FOUND
        await here.batches.sweep()


async def test_the_same_request_id_says_that_its_batch_was_damaged(
    here: Place, clock: SteeredTime
) -> None:
    batch = await retried(here, 0)
    here.disks[0].records[batch.batch_id] = b"no record"
    later = place(clock, here.sessions, here.disks)
    later.batches.recall()
    with pytest.raises(DomainError) as refused:
        await soon(begin(later, named_request()))
    assert refused.value.reason is Reason.BATCH_NOT_FOUND


async def test_items_that_run_again_have_the_failures_before_them_forgiven(here: Place) -> None:
    """Otherwise those that too many failures cancelled could never run."""
    request = batch_of("fail:9", "fail:9", "", "", "", max_failures=2, max_parallel=1)
    batch = await begin(here, request)
    assert (await ended(here, batch.batch_id)).cancelled == 3
    _, count = await here.control.retry(batch.batch_id, ["i2", "i3"], MARY)
    found = await ended(here, batch.batch_id)
    assert (count, found.completed, found.failed, found.cancelled) == (2, 2, 2, 1)
    assert found.end_reason == ""


async def test_after_as_many_failures_again_the_rest_is_cancelled_again(here: Place) -> None:
    request = batch_of(*["fail:9"] * 5, "", max_failures=2, max_parallel=1)
    batch = await begin(here, request)
    await ended(here, batch.batch_id)
    await here.control.retry(batch.batch_id, ["i2", "i3", "i4", "i5"], MARY)
    found = await ended(here, batch.batch_id)
    assert (found.failed, found.cancelled) == (4, 2)
    assert found.end_reason == "2 items failed, and max_failures is 2."
    await here.control.retry(batch.batch_id, ["i0", "i1", "i4", "i5"], MARY)
    found = await ended(here, batch.batch_id)
    assert (found.failed, found.cancelled) == (4, 2)
    here.craft.begun += ["i0", "i1"] * 9
    await here.control.retry(batch.batch_id, ["i0", "i1", "i4", "i5"], MARY)
    found = await ended(here, batch.batch_id)
    assert (found.completed, found.failed, found.cancelled) == (3, 3, 0)


async def test_the_next_server_forgives_the_same_failures(
    here: Place, clock: SteeredTime
) -> None:
    request = batch_of("fail:9", "fail:9", "slow", max_failures=2, max_parallel=1)
    batch = await begin(here, request)
    await ended(here, batch.batch_id)
    await here.control.retry(batch.batch_id, ["i2"], MARY)
    later = place(clock, here.sessions, here.disks)
    later.batches.recall()
    known = here.batches.get(batch.batch_id, MARY)
    recalled = later.batches.get(batch.batch_id, MARY)
    assert recalled.record == known.record
    assert recalled.failures == known.failures == 0
    here.craft.gate.set()
    assert (await ended(here, batch.batch_id)).completed == 1


async def test_failures_in_a_batch_that_runs_on_count_from_its_last_retry(here: Place) -> None:
    request = batch_of("fail:1", "slow", "fail:9", "fail:9", *["slow"] * 5, max_failures=2)
    batch = await begin(here, request)
    known = here.batches.get(batch.batch_id, MARY)
    await until(lambda: known.failures == 1)
    await here.control.retry(batch.batch_id, (), MARY)
    assert known.failures == 0
    here.craft.gate.set()
    found = await ended(here, batch.batch_id)
    assert (found.failed, found.end_reason) == (2, "2 items failed, and max_failures is 2.")
    assert found.cancelled
