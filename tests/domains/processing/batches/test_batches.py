"""Batches from their call to their end, over sessions in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from domains.clients import Caller, Role, calling
from domains.codec import decode, encode
from domains.errors import (
    DomainError,
    InvalidArgument,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from domains.processing.batches.core import batches as batches_module
from domains.processing.batches.core.shelf import Shelf
from domains.processing.batches.errors import (
    BatchConflict,
    BatchNotFound,
    BatchQuotaExceeded,
    ItemIdTaken,
)
from domains.processing.batches.types import (
    BatchRecord,
    BatchRequest,
    BatchStatus,
    Computation,
    ItemRecord,
    ItemStatus,
    ItemWork,
    Manner,
    Retry,
)
from domains.processing.errors import StateConflict
from domains.session.core.session import Session
from domains.session.types import Completed, ItemFinished, SessionState, WorkOptions
from domains.session.types.named import NOTHING_NAMED
from tests.clocks import SteeredTime
from tests.domains.processing.batches.conftest import Place, place

MARY, BOB = Caller("default", Role.RUN), Caller("bob", Role.RUN)
COMPLETED, FAILED, CANCELLED, PAUSED = (
    SessionState.COMPLETED,
    SessionState.FAILED,
    SessionState.CANCELLED,
    SessionState.PAUSED,
)


def works(*overlays: str) -> tuple[ItemWork, ...]:
    return tuple(
        ItemWork(f"i{at}", overlay.encode(), f"items[{at}]")
        for at, overlay in enumerate(overlays)
    )


def batch_of(*overlays: str, keep_open: bool = False, **manner: Any) -> BatchRequest:
    return BatchRequest(
        template=b"template",
        items=works(*overlays),
        matrix=False,
        keep_open=keep_open,
        manner=Manner(**manner),
        options=WorkOptions(),
        digest=b"",
    )


async def begin(here: Place, request: BatchRequest) -> BatchStatus:
    session = await here.runner.begin(here.batches.create(request))
    batch = await here.batches.made(session)
    return batch.status(MARY)


def items(here: Place, batch_id: str) -> list[ItemStatus]:
    batch = here.batches.get(batch_id, MARY)
    return [batch.item_status(record) for record in batch.items.all]


async def until(said: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not said():  # noqa: ASYNC110 - whatever it looks at tells nobody
            await asyncio.sleep(0.001)


async def ended(here: Place, batch_id: str) -> BatchStatus:
    batch = here.batches.get(batch_id, MARY)
    async with asyncio.timeout(10):
        await batch.session.over()
    return batch.status(MARY)


async def test_a_thousand_items_cost_a_row_each_and_few_sessions(here: Place) -> None:
    batch = await begin(here, batch_of(*["slow"] * 1_000))
    await until(lambda: bool(here.craft.begun))
    assert len(here.sessions.children(batch.session_id)) == 2
    assert here.disks[1].written == 1_000
    here.craft.gate.set()
    found = await ended(here, batch.batch_id)
    assert (found.completed, found.state) == (1_000, COMPLETED)
    assert here.disks[1].written == 2_000
    assert here.craft.begun == [f"i{at}" for at in range(1_000)]


@pytest.mark.parametrize("computation", Computation)
async def test_items_name_what_is_their_batchs_owners_whoever_has_them_begun(
    here: Place, computation: Computation
) -> None:
    """A server that takes a batch up does so in nobody's call."""
    request = batch_of(*[""] * 3, computation=computation)
    with calling(BOB):
        status = await begin(here, request)
        await until(lambda: items(here, status.batch_id)[-1].state is COMPLETED)
    assert here.craft.callers == {MARY}


async def test_an_end_is_on_disk_before_it_is_told(here: Place) -> None:
    batch = await begin(here, batch_of("", "fail:9", ""))
    session = here.batches.get(batch.batch_id, MARY).session
    async for event in here.reader.events(session):
        if isinstance(event.event, ItemFinished):
            kept = [decode(ItemRecord, body) for body in here.disks[1].records.values()]
            states = {each.item_id: each.state for each in kept}
            assert states[event.item_id] is (FAILED if event.event.failure else COMPLETED)
    assert [each.state for each in items(here, batch.batch_id)] == [
        COMPLETED,
        FAILED,
        COMPLETED,
    ]


async def test_what_cannot_begin_for_now_is_tried_again_and_is_no_attempt(
    here: Place, clock: SteeredTime
) -> None:
    here.craft.refusal = Unavailable("Not now.", reason=Reason.DEVICE_UNAVAILABLE)
    batch = await begin(here, batch_of("", ""))
    await asyncio.sleep(0.05)
    assert not here.craft.begun
    here.craft.refusal = None
    clock.move(100.0)
    here.batches.get(batch.batch_id, MARY).wake.set()
    assert (await ended(here, batch.batch_id)).completed == 2
    assert [each.attempts for each in items(here, batch.batch_id)] == [1, 1]


async def test_what_cannot_begin_at_all_has_failed(here: Place) -> None:
    here.craft.refusal = DomainError("Gone.", reason=Reason.INTERNAL)
    found = await ended(here, (await begin(here, batch_of(""))).batch_id)
    assert (found.failed, found.state) == (1, COMPLETED)


@pytest.mark.parametrize("manner", [{}, {"computation": Computation.THROUGHPUT}])
async def test_what_no_memory_of_the_machine_suffices_for_has_failed(
    here: Place, manner: dict[str, Any]
) -> None:
    """Those after it have their turn; where memory is only short for now, it waits."""
    here.craft.refusal = ResourceExhausted(
        "It needs more than there is in all.", reason=Reason.HOST_OUT_OF_MEMORY
    )
    found = await ended(here, (await begin(here, batch_of("", "", **manner))).batch_id)
    assert (found.failed, found.state) == (2, COMPLETED)

    here.craft.refusal = ResourceExhausted(
        "Memory is tight.", reason=Reason.HOST_OUT_OF_MEMORY, retry_after=0.01
    )
    batch = await begin(here, batch_of("", **manner))
    await asyncio.sleep(0.05)
    assert [each.state for each in items(here, batch.batch_id)] == [SessionState.QUEUED]


async def test_an_item_is_tried_as_often_as_was_asked(here: Place) -> None:
    request = batch_of("fail:2", "fail:3", retry=Retry(3, 0.0))
    batch = await begin(here, request)
    found = await ended(here, batch.batch_id)
    assert (found.completed, found.failed) == (1, 1)
    assert [each.attempts for each in items(here, batch.batch_id)] == [3, 3]
    again, count = await here.control.retry(batch.batch_id, (), MARY)
    assert (count, again.session_id != batch.session_id) == (1, True)
    found = await ended(here, batch.batch_id)
    assert (found.completed, found.failed) == (2, 0)
    assert items(here, batch.batch_id)[1].attempts == 4


async def test_too_many_failures_cancel_the_rest(here: Place) -> None:
    batch = await begin(here, batch_of("fail:9", "fail:9", "slow", "slow", max_failures=2))
    found = await ended(here, batch.batch_id)
    assert (found.failed, found.cancelled, found.state) == (2, 2, COMPLETED)
    assert "max_failures is 2" in found.end_reason


async def test_a_batch_that_is_sealed_stays_so_where_too_many_fail_meanwhile(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both change its row, and whoever was told that it is sealed finds it so again."""
    disk, held = here.disks[0], list[Future[None]]()
    put = disk.put

    def slowly(key: str, body: bytes) -> Future[None]:
        put(key, body)
        held.append(Future())
        if len(held) > 2:
            held[-1].set_result(None)
        return held[-1]

    monkeypatch.setattr(disk, "put", slowly)
    request = batch_of("slow", "fail:9", "", keep_open=True, max_failures=1, max_parallel=1)
    batch = await begin(here, request)
    sealing = asyncio.create_task(here.control.add(batch.batch_id, (), MARY, seal=True))
    await until(lambda: len(held) == 1)
    here.craft.gate.set()
    await until(lambda: len(held) == 2)
    held[0].set_result(None)
    assert (await sealing).sealed
    on_disk = decode(BatchRecord, disk.records[batch.batch_id])
    assert (on_disk.sealed, on_disk.end_reason) == (
        True,
        "1 items failed, and max_failures is 1.",
    )
    held[1].set_result(None)
    await ended(here, batch.batch_id)


async def test_one_item_alone_can_be_cancelled(here: Place) -> None:
    batch = await begin(here, batch_of("slow", "slow", "slow"))
    await until(lambda: len(here.sessions.children(batch.session_id)) == 2)
    first, second = here.sessions.children(batch.session_id)
    second.request_cancel(Reason.CANCELLED_BY_CLIENT)
    here.craft.gate.set()
    await ended(here, batch.batch_id)
    assert [each.state for each in items(here, batch.batch_id)] == [
        COMPLETED,
        CANCELLED,
        COMPLETED,
    ]
    assert "i1" not in here.craft.begun
    assert first.about.parent.item_id == "i0"


async def test_pausing_stops_what_runs_and_resuming_goes_on(here: Place) -> None:
    batch = await begin(here, batch_of("slow", "slow", "slow"))
    await until(lambda: bool(here.craft.begun))
    await here.control.pause(batch.batch_id, MARY, "")
    session = here.batches.get(batch.batch_id, MARY).session
    await until(lambda: session.state is SessionState.PAUSED)
    children = here.sessions.children(batch.session_id)
    assert {child.state for child in children} == {SessionState.PAUSED}
    await here.control.resume(batch.batch_id, MARY)
    here.craft.gate.set()
    found = await ended(here, batch.batch_id)
    assert found.completed == 3
    assert len(here.sessions.children(batch.session_id)) == 3


async def test_that_it_is_paused_is_answered_once_it_is_on_disk(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await begin(here, batch_of("slow"))
    session = here.batches.get(batch.batch_id, MARY).session
    written = asyncio.Event()

    async def settled(of: Session) -> None:
        assert of is session
        await written.wait()

    monkeypatch.setattr(here.sessions, "settled", settled)
    here.sessions.pause(session, "", "mary")
    await until(lambda: session.state is PAUSED)
    answer = asyncio.ensure_future(
        here.control.get(batch.batch_id, MARY, frozenset(), page_size=0, page_token="")
    )
    await asyncio.sleep(0.05)
    assert not answer.done()
    written.set()
    status, _ = await answer
    assert status.state is PAUSED


async def test_a_paused_batch_that_is_cancelled_ends_its_items(here: Place) -> None:
    batch = await begin(here, batch_of("slow", "slow", "slow"))
    await until(lambda: bool(here.craft.begun))
    await here.control.pause(batch.batch_id, MARY, "")
    session = here.batches.get(batch.batch_id, MARY).session
    await until(lambda: session.state is SessionState.PAUSED)
    await here.control.cancel(batch.batch_id, MARY, "enough")
    found = await ended(here, batch.batch_id)
    assert (found.cancelled, found.state) == (3, CANCELLED)
    assert "enough" in found.end_reason
    assert {child.state for child in here.sessions.children(batch.session_id)} == {CANCELLED}


async def test_a_batch_that_takes_too_long_fails_and_says_why(
    here: Place, clock: SteeredTime
) -> None:
    request = batch_of("slow", "slow")
    options = WorkOptions(run_timeout_seconds=0.05)
    batch = await begin(here, BatchRequest(**{**vars(request), "options": options}))
    found = await ended(here, batch.batch_id)
    assert (found.state, found.cancelled) == (FAILED, 2)
    assert "run_timeout" in found.end_reason


async def test_a_disk_that_takes_nothing_refuses_the_batch(here: Place) -> None:
    here.disks[1].refusal = ResourceExhausted("Full.", reason=Reason.DISK_FULL)
    with pytest.raises(DomainError) as refused:
        await begin(here, batch_of("", ""))
    assert refused.value.reason is Reason.DISK_FULL
    assert not here.disks[0].records
    assert not here.disks[1].records
    here.disks[1].refusal = None
    batch = await begin(here, batch_of("slow", keep_open=True))
    here.disks[1].refusal = ResourceExhausted("Full.", reason=Reason.DISK_FULL)
    with pytest.raises(ResourceExhausted):
        await here.control.add(
            batch.batch_id, (ItemWork("x", b"", "items[0]"),), MARY, seal=True
        )
    assert here.batches.get(batch.batch_id, MARY).status(MARY).items == 1


async def test_items_that_are_there_change_nothing_and_others_are_refused(here: Place) -> None:
    batch = await begin(here, batch_of("", "slow", keep_open=True))
    added = await here.control.add(batch.batch_id, works("", "slow", ""), MARY, seal=False)
    assert (added.items, added.sealed) == (3, False)
    with pytest.raises(ItemIdTaken):
        await here.control.add(batch.batch_id, works("slow"), MARY, seal=False)
    with pytest.raises(BatchNotFound):
        await here.control.add(batch.batch_id, works("slow"), BOB, seal=False)
    await here.control.add(batch.batch_id, (), MARY, seal=True)
    with pytest.raises(BatchConflict):
        await here.control.add(batch.batch_id, works("", "slow", "", ""), MARY, seal=False)
    with pytest.raises(BatchConflict):
        await here.control.retry(batch.batch_id, ["i1"], MARY)
    with pytest.raises(StateConflict):
        await here.control.delete(batch.batch_id, MARY)


async def test_a_client_holds_no_more_than_it_may(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "MOST_BYTES", 30)
    batch = await begin(here, batch_of("slow", keep_open=True))
    with pytest.raises(BatchQuotaExceeded):
        await here.control.add(batch.batch_id, works("slow", "x" * 40), MARY, seal=False)
    with pytest.raises(DomainError) as refused:
        await begin(here, batch_of("x" * 40))
    assert refused.value.reason is Reason.CLIENT_QUOTA_EXCEEDED


async def test_a_batch_goes_with_its_session(here: Place) -> None:
    batch = await begin(here, batch_of("", ""))
    await ended(here, batch.batch_id)
    here.sessions.forget(here.sessions.get(batch.session_id))
    with pytest.raises(BatchNotFound):
        here.batches.get(batch.batch_id, MARY)
    assert here.disks[1].records
    await here.batches.sweep()
    assert not here.disks[0].records
    assert not here.disks[1].records


async def test_a_batch_whose_session_cannot_go_on_has_no_item_that_waits(here: Place) -> None:
    batch = await begin(here, batch_of("slow", "slow", "slow"))
    known = here.batches.get(batch.batch_id, MARY)
    # As of a session of an earlier server, of which no plan says who hears of its end.
    here.sessions._ended.clear()
    known.session.fail(DomainError("No.", reason=Reason.INTERNAL).failure())
    await here.batches.sweep()
    assert [each.state for each in items(here, batch.batch_id)] == [CANCELLED] * 3
    assert known.record.end_reason == "No."


async def test_items_without_a_batch_are_swept_and_lost_ones_say_so(here: Place) -> None:
    batch = await begin(here, batch_of("", "", ""))
    await ended(here, batch.batch_id)
    records = here.disks[1].records
    first = decode(ItemRecord, records[f"{batch.batch_id}:0"])
    del records[f"{batch.batch_id}:1"]
    records["other:0"] = encode(structs.replace(first, batch_id="other"))
    records["broken"] = b"no record"
    ((kept, found),) = Shelf(*here.disks).found()
    assert kept.batch_id == batch.batch_id
    assert "other:0" not in records
    assert [each.state for each in found] == [COMPLETED, FAILED, COMPLETED]
    assert found[1].failure is not None
    assert found[1].failure.reason is Reason.DATA_CORRUPTED


SHARED = {"computation": Computation.THROUGHPUT}


async def test_items_that_share_are_drawn_in_groups_and_told_one_by_one(here: Place) -> None:
    batch = await begin(here, batch_of(*[""] * 40, **SHARED))
    found = await ended(here, batch.batch_id)
    assert (found.completed, found.state) == (40, COMPLETED)
    assert [len(group) for group in here.craft.groups] == [16, 16, 8]
    assert {len(each.images) for each in items(here, batch.batch_id)} == {1}
    assert {each.images[0].image_index for each in items(here, batch.batch_id)} == {0}
    session = here.sessions.get(batch.session_id)
    names = [
        event.item_id
        async for event in here.reader.events(session)
        if isinstance(event.event, ItemFinished)
    ]
    assert sorted(names) == sorted(f"i{at}" for at in range(40))


@pytest.mark.parametrize(
    ("fitting", "first"),
    [
        (0, 1),
        (2, 4),
        (100, 16),
        (ResourceExhausted("No.", reason=Reason.DEVICE_OUT_OF_MEMORY), 16),
    ],
)
async def test_groups_begin_as_large_as_free_memory_allows_and_grow(
    here: Place, fitting: int | DomainError, first: int
) -> None:
    here.craft.fitting = fitting
    batch = await begin(here, batch_of(*[""] * 60, **SHARED))
    found = await ended(here, batch.batch_id)
    assert found.completed == 60
    groups = [len(group) for group in here.craft.groups]
    assert groups[0] == max(first, 2)  # one alone is no group
    assert max(groups) > first
    end = here.sessions.get(batch.session_id).log.terminal
    assert isinstance(end, Completed)
    told = [each.detail for each in end.degradations]
    small = [f"Little memory was free: groups began with {first} items."]
    assert told == (small if first < 16 else [])


async def test_groups_are_halved_when_memory_runs_out_and_grow_back(here: Place) -> None:
    batch = await begin(here, batch_of(*["oom:5"] * 20, *[""] * 40, **SHARED))
    found = await ended(here, batch.batch_id)
    assert (found.completed, found.failed) == (60, 0)
    assert {each.attempts for each in items(here, batch.batch_id)} == {1}
    sizes = [len(group) for group in here.craft.groups]
    assert sizes[0] == 16
    assert min(sizes[:-1]) < 8
    end = here.sessions.get(batch.session_id).log.terminal
    assert isinstance(end, Completed)
    assert "Memory ran out" in end.degradations[0].detail


async def test_a_group_that_is_paused_goes_on_and_repeats_nothing(here: Place) -> None:
    batch = await begin(here, batch_of("", "slow", "", **SHARED))
    await until(lambda: here.batches.get(batch.batch_id, MARY).items.ended == 1)
    await here.control.pause(batch.batch_id, MARY, "")
    session = here.batches.get(batch.batch_id, MARY).session
    await until(lambda: session.state is SessionState.PAUSED)
    await here.control.resume(batch.batch_id, MARY)
    here.craft.gate.set()
    found = await ended(here, batch.batch_id)
    assert found.completed == 3
    assert len(here.craft.groups) == 1
    assert {each.attempts for each in items(here, batch.batch_id)} == {1}


async def test_a_group_that_is_gone_while_the_batch_is_paused_begins_anew(here: Place) -> None:
    batch = await begin(here, batch_of("", "slow", "", **SHARED))
    await until(lambda: here.batches.get(batch.batch_id, MARY).items.ended == 1)
    await here.control.pause(batch.batch_id, MARY, "")
    session = here.batches.get(batch.batch_id, MARY).session
    await until(lambda: session.state is SessionState.PAUSED)
    (group,) = here.sessions.children(batch.session_id)
    group.request_cancel(Reason.CANCELLED_BY_CLIENT)
    here.sessions.forget(group)
    await here.control.resume(batch.batch_id, MARY)
    here.craft.gate.set()
    assert (await ended(here, batch.batch_id)).completed == 3
    assert here.craft.groups[1:] == [["i1", "i2"]]


async def test_no_more_share_than_may_run_at_once(here: Place) -> None:
    batch = await begin(here, batch_of(*[""] * 10, max_parallel=4, **SHARED))
    assert (await ended(here, batch.batch_id)).completed == 10
    assert max(len(group) for group in here.craft.groups) == 4


async def test_what_items_name_is_needed_until_they_have_ended(here: Place) -> None:
    """What the request names, until the batch has; what is added counts from its check on, and
    an item that runs again needs what it needed."""
    needed = here.sessions.needed.now
    request = batch_of("slow@a", "fail:1@b", keep_open=True)
    batch = await begin(here, replace(request, template=b"template@t"))
    owners = {"default"}
    assert needed() == {"t": owners, "a": owners, "b": owners}
    more = (ItemWork("more", b"@c", "items[0]"),)
    adding = asyncio.create_task(here.control.add(batch.batch_id, more, MARY, seal=False))
    await asyncio.sleep(0)
    assert "c" in needed()
    await adding
    await until(lambda: here.craft.begun == ["i0"])
    assert needed() == {"t": owners, "a": owners, "b": owners, "c": owners}
    here.craft.gate.set()
    found = here.batches.get(batch.batch_id, MARY)
    await until(lambda: found.items.all_ended)
    assert needed() == {"t": owners}
    await here.control.add(batch.batch_id, (), MARY, seal=True)
    await ended(here, batch.batch_id)
    assert needed() == {}
    here.craft.gate.clear()
    await here.control.retry(batch.batch_id, ["i1"], MARY)
    assert needed() == {"t": owners, "b": owners}
    await ended(here, batch.batch_id)
    assert needed() == {}


async def test_what_was_refused_to_be_added_is_not_needed(here: Place) -> None:
    batch = await begin(here, batch_of("slow", keep_open=True))
    with pytest.raises(InvalidArgument):
        await here.control.add(
            batch.batch_id, (ItemWork("x", b"wrong@c", "items[0]"),), MARY, seal=False
        )
    assert here.sessions.needed.now() == {}


async def test_the_next_server_needs_what_items_name_that_had_not_ended(here: Place) -> None:
    """From the moment on at which it knows them."""
    batch = await begin(here, batch_of("@a", "slow@b", max_parallel=1))
    await until(lambda: len(here.craft.begun) == 2)
    later = place(SteeredTime(), here.sessions, here.disks)
    found = here.sessions.get(batch.session_id)
    found.about = replace(found.about, named=NOTHING_NAMED)
    later.batches.recall()
    assert here.sessions.needed.now() == {"b": {"default"}}
