"""Lending: idempotent, within quotas, as far as there is room, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec.structs import replace as replace_fields

from domains.clients import Caller
from domains.device.errors import DeviceNotFound, DeviceUnavailable
from domains.device.types import DeviceState
from domains.errors import (
    DeadlineExceeded,
    DomainError,
    Internal,
    InvalidArgument,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from domains.memory.core import errands
from domains.memory.errors import (
    AllocationBusy,
    AllocationNotFound,
    AllocationRequestReused,
    InvalidMemoryRequest,
    MemoryElsewhere,
    OutOfMemory,
    PinningUnsupported,
    QuotaExceeded,
)
from domains.memory.types import (
    Allocation,
    AllocationRequest,
    Place,
    PressureLevel,
    SegmentRegion,
)
from tests.domains.memory.conftest import ADMIN, ANN, BOB, CARD, CPU, HOST, MIB, System, build
from tests.fakes.device import FakeProbe, FakeWorkers, card, unusable
from tests.fakes.memory import MOMENT

KEY = "6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a111"
PINNED = Place(pinned=True)


@pytest.mark.parametrize(
    ("wanted", "field", "reason"),
    [
        (AllocationRequest(None, 1), "place", Reason.REQUIRED_FIELD_MISSING),
        (AllocationRequest(HOST, 0), "size_bytes", Reason.FIELD_OUT_OF_RANGE),
        (AllocationRequest(HOST, (1 << 40) + 1), "size_bytes", Reason.FIELD_OUT_OF_RANGE),
        (AllocationRequest(HOST, 1, lease_seconds=0.5), "lease", Reason.FIELD_OUT_OF_RANGE),
        (AllocationRequest(HOST, 1, label="x" * 129), "label", Reason.TEXT_TOO_LONG),
        (AllocationRequest(HOST, 1, request_id="no"), "request_id", Reason.REQUEST_ID_INVALID),
        (AllocationRequest(Place("a b"), 1), "place.device_id", Reason.NAME_INVALID),
    ],
)
async def test_broken_rules_name_their_field(
    system: System, wanted: AllocationRequest, field: str, reason: Reason
) -> None:
    with pytest.raises(InvalidMemoryRequest) as broken:
        await system.service.leases.create(ANN, wanted)

    assert [(v.field, v.reason) for v in broken.value.violations] == [(field, reason)]


async def test_an_alias_is_told_by_its_id(system: System) -> None:
    assert (await system.lend(Place("gpu"))).place == CARD
    with pytest.raises(DeviceNotFound):
        await system.lend(Place("mps:0"))


async def test_memory_that_shall_be_zero_is(system: System) -> None:
    for place in (HOST, CARD):
        wanted = AllocationRequest(place, 5000, zeroed=True)
        made = await system.service.leases.create(ANN, wanted)
        chunks = system.service.access.read(ANN, made.allocation_id, 0, 0)
        assert b"".join([chunk.data async for chunk in chunks]) == bytes(5000)


async def test_the_same_request_again_finds_what_it_took(system: System) -> None:
    wanted = AllocationRequest(HOST, MIB, request_id=KEY)
    allocate = system.service.leases.create

    one, same = await asyncio.gather(allocate(ANN, wanted), allocate(ANN, wanted))
    later = await allocate(ANN, wanted)
    other_client = await allocate(BOB, wanted)

    assert one == same == later
    assert other_client.allocation_id != one.allocation_id
    assert system.segments.leased_bytes() == 2 * MIB
    with pytest.raises(AllocationRequestReused) as reused:
        await allocate(ANN, replace(wanted, size_bytes=1))
    assert reused.value.metadata["allocation_id"] == one.allocation_id


async def test_a_request_id_is_free_again_after_its_allocation(system: System) -> None:
    wanted = AllocationRequest(HOST, MIB, request_id=KEY)
    one = await system.service.leases.create(ANN, wanted)
    await system.service.leases.delete(ANN, one.allocation_id)

    again = await system.service.leases.create(ANN, replace(wanted, size_bytes=2 * MIB))

    assert again.allocation_id != one.allocation_id
    await system.service.leases.sweep()
    assert system.service.leases.renew(ANN, [], 60)


async def test_a_request_that_failed_may_be_made_again(system: System) -> None:
    wanted = AllocationRequest(CARD, MIB, request_id=KEY)
    system.buffers.capacity = 0
    with pytest.raises(OutOfMemory):
        await system.service.leases.create(ANN, wanted)
    system.buffers.capacity = MIB

    assert (await system.service.leases.create(ANN, wanted)).size_bytes == MIB


async def test_a_caller_that_gives_up_leaves_nothing(system: System) -> None:
    for place in (HOST, CARD):
        task = asyncio.create_task(system.lend(place, 64 * MIB))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for _ in range(500):
        if not system.backed():
            break
        await asyncio.sleep(0.01)

    assert system.backed() == 0
    assert system.ledger.all() == []
    assert system.ledger.reserved(HOST) == system.ledger.reserved(CARD) == 0


async def test_a_lease_lives_while_it_is_renewed_and_no_longer(system: System) -> None:
    one, other = await system.lend(HOST), await system.lend(CARD)
    system.time.move(50)
    (renewed,) = system.service.leases.renew(ANN, [one.allocation_id], 60)
    system.time.move(20)
    await system.service.leases.sweep()

    assert renewed.lease_expire_time == one.lease_expire_time + timedelta(seconds=50)
    assert system.backed() == MIB
    with pytest.raises(AllocationNotFound, match="expired"):
        system.service.leases.renew(ANN, [one.allocation_id, other.allocation_id], 60)
    system.time.move(60)
    await system.service.leases.sweep()
    assert system.backed() == 0


async def test_of_very_many_leases_the_oldest_are_shown_and_all_renewed(
    system: System,
) -> None:
    lent = [await system.lend(HOST, 1) for _ in range(1001)]
    system.time.move(50)

    shown = system.service.leases.renew(ANN, [], 60)
    assert [one.allocation_id for one in shown] == [one.allocation_id for one in lent[:1000]]
    system.time.move(20)
    await system.service.leases.sweep()
    assert system.backed() == 1001


@pytest.mark.parametrize(
    ("ids", "lease", "reason"),
    [([], 0.9, Reason.FIELD_OUT_OF_RANGE), (["x"] * 1001, 60, Reason.TOO_MANY_ELEMENTS)],
)
async def test_a_renewal_has_limits(
    system: System, ids: list[str], lease: float, reason: Reason
) -> None:
    with pytest.raises(InvalidMemoryRequest) as broken:
        system.service.leases.renew(ANN, ids, lease)

    assert broken.value.reason is reason


async def test_freeing_twice_is_not_found(system: System) -> None:
    one = await system.lend(HOST)

    assert await system.service.leases.delete(ANN, one.allocation_id) == MIB
    with pytest.raises(AllocationNotFound, match="freed before"):
        await system.service.leases.delete(ANN, one.allocation_id)


async def test_what_is_being_copied_is_neither_freed_nor_expired(system: System) -> None:
    one, other = await system.lend(HOST), await system.lend(HOST)
    async with system.ledger.copying(ANN, one.allocation_id, other.allocation_id):
        for busy in (one, other):
            with pytest.raises(AllocationBusy) as refused:
                await system.service.leases.delete(ANN, busy.allocation_id)
            assert refused.value.reason is Reason.STATE_CONFLICT
        system.time.move(100)
        await system.service.leases.sweep()
        assert system.backed() == 2 * MIB
    await system.service.leases.sweep()

    assert system.backed() == 0


@asynccontextmanager
async def sweeping(system: System) -> AsyncIterator[None]:
    """Every lease expires; a sweep of a card is at the first one there until the block ends."""
    free = system.buffers.free
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(device_id: str, buffer_id: str) -> int:
        began.set()
        await goes_on.wait()
        return await free(device_id, buffer_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system.buffers, "free", slow)
        system.time.move(100)
        sweep = asyncio.create_task(system.service.leases.sweep())
        await began.wait()
        yield
        goes_on.set()
        await sweep


async def test_what_is_renewed_while_others_are_swept_stays(system: System) -> None:
    _, other = await system.lend(CARD), await system.lend(CARD)
    async with sweeping(system):
        renewed = system.service.leases.renew(ANN, [other.allocation_id], 60)

    assert [lease.allocation for lease in system.ledger.all()] == list(renewed)
    assert system.backed() == MIB


async def test_what_is_copied_while_others_are_swept_stays(system: System) -> None:
    _, one, other = [await system.lend(place) for place in (CARD, CARD, CARD)]
    async with AsyncExitStack() as copy:
        async with sweeping(system):
            await copy.enter_async_context(
                system.ledger.copying(ANN, one.allocation_id, other.allocation_id)
            )
        assert system.backed() == 2 * MIB


async def test_what_is_freed_while_others_are_swept_ends_no_sweep(system: System) -> None:
    _, one, _ = [await system.lend(place) for place in (CARD, CARD, HOST)]
    async with sweeping(system):
        deleting = asyncio.create_task(system.service.leases.delete(ANN, one.allocation_id))
        await asyncio.sleep(0)
    await deleting

    assert system.ledger.all() == []
    assert system.backed() == 0


async def test_a_worker_that_does_not_answer_keeps_no_other_place_from_being_swept(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, free = asyncio.Event(), system.buffers.free

    async def slow(device_id: str, buffer_id: str) -> int:
        await answers.wait()
        return await free(device_id, buffer_id)

    monkeypatch.setattr(errands, "_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(system.buffers, "free", slow)
    sweep = system.service.leases.sweep  # one after another, as the server calls it
    for place in (CARD, HOST):
        await system.lend(place)
    async with asyncio.timeout(30):
        system.time.move(100)
        await sweep()
        await system.lend(HOST)
        system.time.move(100)
        while system.segments.leased_bytes():
            await sweep()
        assert system.buffers.held("cuda:0") == MIB
        answers.set()
        while system.buffers.held("cuda:0"):
            await sweep()


async def test_what_cannot_be_freed_keeps_no_others_from_it(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hung(*_: object) -> int:
        raise DeadlineExceeded("It makes no progress.", reason=Reason.WORKER_HUNG)

    await system.lend(CARD)
    await system.lend(HOST)
    monkeypatch.setattr(system.buffers, "free", hung)
    system.time.move(100)
    await system.service.leases.sweep()

    assert system.ledger.all() == []
    assert system.segments.leased_bytes() == 0


async def test_freeing_waits_for_a_read_under_way(system: System) -> None:
    one = await system.lend(HOST)
    async with system.ledger.touching(ANN, one.allocation_id):
        freeing = asyncio.create_task(system.service.leases.delete(ANN, one.allocation_id))
        await asyncio.sleep(0.02)
        assert not freeing.done()
        assert system.backed() == MIB

    assert await freeing == MIB
    assert system.backed() == 0


async def test_the_quota_counts_what_shares_a_memory() -> None:
    """Main memory and the processor's memory are one; a card has its own."""
    system = build(quota_bytes=3 * MIB)
    await system.inventory.discover()
    await system.lend(HOST, 2 * MIB)
    await system.lend(CARD, 3 * MIB)

    with pytest.raises(QuotaExceeded) as refused:
        await system.lend(CPU, 2 * MIB)

    assert refused.value.reason is Reason.CLIENT_QUOTA_EXCEEDED
    assert refused.value.metadata == {
        "owner": "ann",
        "needed_bytes": str(2 * MIB),
        "held_bytes": str(2 * MIB),
        "quota_bytes": str(3 * MIB),
    }
    await system.lend(CPU, 2 * MIB, caller=BOB)
    system.segments.close()


async def test_without_a_quota_half_of_a_memory_is_one() -> None:
    system = build(quota_bytes=None)
    await system.inventory.discover()

    with pytest.raises(QuotaExceeded) as refused:
        await system.lend(CARD, (512 << 20) + 1)

    assert refused.value.metadata["quota_bytes"] == str(512 << 20)


async def test_too_much_is_refused_politely_and_less_works(system: System) -> None:
    """Of main memory the last twentieth is never lent."""
    lendable = (48 << 30) - int((1 - 0.95) * (64 << 30))
    with pytest.raises(OutOfMemory) as refused:
        await system.lend(HOST, lendable + 1)

    assert refused.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert refused.value.metadata == {
        "place": "main memory",
        "needed_bytes": str(lendable + 1),
        "free_bytes": str(lendable),
        "evictable_bytes": "0",
        "evictable_model_ids": "",
    }
    assert (await system.lend(HOST)).size_bytes == MIB


async def test_memory_that_refuses_itself_is_told_as_politely(system: System) -> None:
    """Figures are a moment old: the allocator has the last word."""
    system.buffers.capacity = 2 * MIB
    with pytest.raises(OutOfMemory) as refused:
        await system.lend(CARD, 3 * MIB)

    assert refused.value.reason is Reason.DEVICE_OUT_OF_MEMORY
    assert refused.value.metadata["device_id"] == "cuda:0"
    assert refused.value.metadata["free_bytes"] == str(1 << 30)
    assert f"{1 << 30} bytes are free, and the system refuses" in refused.value.message
    assert (await system.lend(CARD, 2 * MIB)).size_bytes == 2 * MIB


async def test_what_is_free_is_what_the_refusing_memory_says(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        metadata = {"free_bytes": "77"}
        raise ResourceExhausted("No.", reason=Reason.HOST_OUT_OF_MEMORY, metadata=metadata)

    monkeypatch.setattr(system.buffers, "allocate", refuse)
    with pytest.raises(OutOfMemory) as refused:
        await system.lend(CARD, MIB)
    assert refused.value.metadata["free_bytes"] == "77"
    assert "77 bytes can be had there" in refused.value.message


def _freeing(system: System, sizes: dict[str, int]) -> Callable[[str], None]:
    def free(model_id: str) -> None:
        before = system.meter.known["cuda:0"].free.value or 0
        system.meter.tell("cuda:0", 100 * MIB, before + sizes[model_id])

    return free


async def test_idle_models_give_way_oldest_first_and_no_more_than_needed(
    system: System,
) -> None:
    sizes = {"old": 10 * MIB, "newer": 10 * MIB, "newest": 10 * MIB}
    for hour, (model_id, size) in enumerate(reversed(sizes.items())):
        system.models.hold("cuda:0", model_id, size, used=MOMENT - timedelta(hours=hour))
    system.models.hold("cuda:1", "elsewhere", 90 * MIB, used=MOMENT - timedelta(hours=9))
    system.meter.tell("cuda:0", 100 * MIB, 5 * MIB)
    system.models.on_release = _freeing(system, sizes)

    await system.lend(CARD, 20 * MIB)

    assert system.models.released == ["old", "newer"]


async def test_when_nobody_could_give_way_enough_nobody_does(system: System) -> None:
    system.models.hold("cuda:0", "idle", 10 * MIB, used=MOMENT)
    system.models.hold("cuda:0", "drawing", 50 * MIB, used=MOMENT, in_use=True)
    system.meter.tell("cuda:0", 100 * MIB, 5 * MIB)

    with pytest.raises(OutOfMemory) as refused:
        await system.lend(CARD, 20 * MIB)

    assert system.models.released == []
    assert refused.value.metadata["free_bytes"] == str(5 * MIB)
    assert refused.value.metadata["evictable_bytes"] == str(10 * MIB)
    assert refused.value.metadata["evictable_model_ids"] == "idle"


async def test_a_model_that_will_not_go_leaves_the_refusal(system: System) -> None:
    system.models.hold("cuda:0", "idle", 30 * MIB, used=MOMENT)
    system.models.busy = True
    system.meter.tell("cuda:0", 100 * MIB, 5 * MIB)

    with pytest.raises(OutOfMemory):
        await system.lend(CARD, 20 * MIB)


async def test_high_pressure_lends_nothing(system: System) -> None:
    system.host.use(0.92)
    await system.service.watch.sample()

    with pytest.raises(OutOfMemory) as refused:
        await system.lend(HOST, 1)

    assert refused.value.metadata["pressure"] == PressureLevel.HIGH.name.lower()
    assert refused.value.retry_after
    assert (await system.lend(CARD, 1)).size_bytes == 1


async def test_a_dead_worker_takes_its_allocations_along(system: System) -> None:
    gone, kept = await system.lend(CARD), await system.lend(HOST)

    system.buffers.lose("cuda:0")

    with pytest.raises(AllocationNotFound) as told:
        await system.service.leases.delete(ANN, gone.allocation_id)
    assert told.value.metadata["cause"] == "worker_lost"
    assert [a.allocation_id for a in system.service.leases.renew(ANN, [], 60)] == [
        kept.allocation_id
    ]


async def test_memory_is_pinned_for_a_card_that_works_though_it_looks_full(
    system: System,
) -> None:
    system.probe.adapters = [unusable(card(0), "a first computation failed: out of memory")]
    await system.inventory.discover()

    await system.lend(PINNED)

    assert [device_id for device_id, _ in system.buffers.pinned] == ["cuda:0"]


async def test_pinned_memory_is_pinned_and_its_unpinning_is_told(system: System) -> None:
    one = await system.lend(PINNED)
    lease = system.ledger.get(ANN, one.allocation_id)
    assert isinstance(lease.region, SegmentRegion)
    assert system.buffers.pinned == {("cuda:0", lease.region.segment.name)}

    system.buffers.lose("cuda:0")
    assert system.service.leases.renew(ANN, [], 60)[0].place == HOST

    other = await system.lend(PINNED)  # the next card that can
    await system.service.leases.delete(ANN, other.allocation_id)
    assert system.backed() == MIB


@pytest.mark.parametrize(
    "failure",
    [
        DeadlineExceeded("It makes no progress.", reason=Reason.WORKER_HUNG),
        Unavailable("It was lost.", reason=Reason.WORKER_LOST),
        Internal("It is broken."),
    ],
)
async def test_pinned_memory_is_freed_also_where_it_cannot_be_unpinned(
    system: System, monkeypatch: pytest.MonkeyPatch, failure: DomainError
) -> None:
    async def unpin(*_: object) -> None:
        raise failure

    monkeypatch.setattr(system.buffers, "unpin", unpin)
    one = await system.lend(PINNED)

    assert await system.service.leases.delete(ANN, one.allocation_id) == MIB
    assert system.backed() == 0


async def test_where_nothing_can_pin_it_is_an_error_and_nothing_is_kept(
    system: System,
) -> None:
    system.buffers.can_pin = False
    with pytest.raises(PinningUnsupported) as refused:
        await system.lend(PINNED)

    assert refused.value.reason is Reason.DEVICE_UNSUPPORTED
    assert system.backed() == 0


async def test_pages_list_the_callers_allocations_oldest_first(system: System) -> None:
    mine = [await system.lend(place) for place in (HOST, CARD, HOST)]
    await system.lend(HOST, caller=BOB)
    listed = system.service.leases.list

    first = await listed(ANN, None, page_size=2, page_token="")
    rest = await listed(ANN, None, page_size=2, page_token=first.next_page_token)
    only = await listed(ANN, Place("gpu"), page_size=0, page_token="")

    assert [*first.items, *rest.items] == mine
    assert only.items == (mine[1],)
    assert {one.owner for one in first.items} == {"ann"}
    for changed in (BOB, ADMIN):
        with pytest.raises(InvalidArgument) as broken:
            await listed(changed, None, page_size=2, page_token=first.next_page_token)
        assert broken.value.reason is Reason.PAGE_TOKEN_INVALID
    with pytest.raises(DeviceNotFound):
        await listed(ANN, Place("mps:3"), page_size=0, page_token="")


async def test_for_memory_of_another_machine_nothing_is_evicted(system: System) -> None:
    system.probe.adapters.append(replace_fields(card(0), node="node-a"))
    await system.inventory.discover()
    there = Place("ray:node-a:cuda:0")
    system.meter.tell(there.device_id, 1000, 100)
    system.models.hold(there.device_id, "idle", 500, used=system.time.moment)

    with pytest.raises(MemoryElsewhere) as refused:
        await system.lend(there, 400)

    assert refused.value.reason is Reason.DEVICE_UNSUPPORTED
    assert system.models.released == []


async def test_what_lies_on_a_device_that_is_lost_can_be_asked(system: System) -> None:
    await system.lend(CARD)
    system.buffers.lose("cuda:0")
    system.probe.adapters = []
    system.workers.set("cuda:0", DeviceState.LOST, "It was pulled.")
    await system.inventory.discover()

    page = await system.service.leases.list(ANN, CARD, page_size=0, page_token="")

    assert page.items == ()


async def test_a_list_shows_what_its_caller_may_see_and_of_whom_it_is_asked(
    system: System,
) -> None:
    mine, theirs = await system.lend(HOST), await system.lend(HOST, caller=BOB)
    listed = system.service.leases.list

    async def seen(caller: Caller, owner: str = "") -> list[Allocation]:
        page = await listed(caller, None, owner=owner, page_size=0, page_token="")
        return list(page.items)

    assert await seen(ANN) == await seen(ANN, "ann") == [mine]
    assert await seen(ANN, "bob") == []
    assert await seen(ADMIN) == [mine, theirs]
    assert await seen(ADMIN, "bob") == [theirs]
    with pytest.raises(InvalidMemoryRequest) as refused:
        await seen(ADMIN, "no name")
    assert refused.value.reason is Reason.NAME_INVALID


async def test_an_administrator_ends_what_is_anybodys_and_renews_what_is_its_own(
    system: System,
) -> None:
    one = await system.lend(HOST)
    leases = system.service.leases

    assert leases.renew(ADMIN, [], 60) == ()
    (renewed,) = leases.renew(ADMIN, [one.allocation_id], 100)
    assert renewed.owner == "ann"
    assert await leases.delete(ADMIN, one.allocation_id) == MIB
    with pytest.raises(AllocationNotFound):
        leases.renew(ANN, [one.allocation_id], 60)


async def test_the_ledger_is_held_against_the_allocators(system: System) -> None:
    await system.lend(HOST, 5000)
    await system.lend(CARD, 7000)
    await system.lend(CPU, 100, caller=BOB)
    system.meter.tell("cuda:0", 1 << 30, 1 << 29, leased=9000)

    told = {one.place: one for one in system.service.leases.reconcile()}

    assert told[HOST].ledger_bytes == 5000
    assert told[HOST].allocator.value == 8192  # whole pages, as the system counts
    assert (told[CARD].ledger_bytes, told[CARD].allocator.value) == (7000, 9000)
    assert (told[CPU].ledger_bytes, told[CPU].allocator.value) == (100, None)
    assert told[Place("cuda:1")].ledger_bytes == 0


async def test_an_error_of_another_kind_goes_through(system: System) -> None:
    system.buffers.lost.add("cuda:0")

    with pytest.raises(DomainError) as lost:
        await system.lend(CARD)

    assert lost.value.reason is Reason.WORKER_LOST
    assert not isinstance(lost.value, ResourceExhausted)
    assert system.ledger.reserved(CARD) == 0


async def test_a_device_that_cannot_be_used_says_why(system: System) -> None:
    probe = FakeProbe(unusable(card(0), "its driver is too old"))
    system.inventory._probe = probe
    workers = system.inventory._workers
    assert isinstance(workers, FakeWorkers)
    workers.set("cuda:0", DeviceState.UNAVAILABLE)
    await system.inventory.discover()

    with pytest.raises(DeviceUnavailable, match="too old") as refused:
        await system.lend(CARD)

    assert refused.value.reason is Reason.DEVICE_UNAVAILABLE
