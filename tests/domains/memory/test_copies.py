"""Copies and transfers: between any places, verified, cancelled, refused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from domains.device.errors import DeviceNotFound
from domains.errors import DomainError, Reason
from domains.memory.errors import (
    AllocationNotFound,
    InvalidMemoryRequest,
    OffsetOutOfRange,
)
from domains.memory.types import CopyRequest, Place, TransferRequest
from domains.session.errors import SessionCancelled, SessionFailed
from domains.session.types import (
    Accepted,
    Completed,
    OnDisconnect,
    Phase,
    PhaseStarted,
    SessionEvent,
    SessionKind,
    TransferProgress,
    WorkOptions,
)
from tests.domains.memory.conftest import ANN, CARD, CPU, HOST, MIB, OTHER_CARD, System, build
from tests.domains.memory.test_access import DATA, read, write
from tests.domains.sessions import follow

EVERYWHERE = (HOST, CPU, CARD, OTHER_CARD, Place(pinned=True))
KEY = "6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a222"


async def run(events: AsyncGenerator[SessionEvent]) -> list[object]:
    async with aclosing(events):
        return [event.event async for event in events]


def copy(system: System, *args: object, **more: object) -> AsyncGenerator[SessionEvent]:
    wanted = CopyRequest(*args, **more)  # type: ignore[arg-type]
    return follow(system.sessions, system.service.copies.copy(ANN, wanted))


def transfer(system: System, *args: object, **more: object) -> AsyncGenerator[SessionEvent]:
    wanted = TransferRequest(*args, **more)  # type: ignore[arg-type]
    return follow(system.sessions, system.service.copies.transfer(ANN, wanted))


@pytest.mark.parametrize(
    ("source", "target"), list(itertools.product(EVERYWHERE[:4], repeat=2)), ids=str
)
async def test_bytes_arrive_from_anywhere_to_anywhere(
    system: System, source: Place, target: Place
) -> None:
    one, other = await system.lend(source, 3 * MIB), await system.lend(target, 4 * MIB)
    await write(system, one, DATA[: 3 * MIB])
    await write(system, other, bytes(4 * MIB))
    before = system.backed()

    events = await run(
        copy(system, one.allocation_id, other.allocation_id, 10, MIB, 2 * MIB + 3)
    )

    # The clock stands still: of all that is told between, the log keeps the first.
    accepted, copying, first, verifying, last, completed = events
    assert isinstance(accepted, Accepted)
    assert accepted.kind is SessionKind.MEMORY_TASK
    assert accepted.expected_phases == (Phase.QUEUED, Phase.COPYING, Phase.VERIFYING)
    assert (copying, verifying) == (PhaseStarted(Phase.COPYING), PhaseStarted(Phase.VERIFYING))
    total = 2 * (2 * MIB + 3)
    assert isinstance(first, TransferProgress)
    assert (first.item, first.total_bytes) == (one.allocation_id, total)
    assert 0 < first.done_bytes <= 2 * MIB + 3
    assert last == TransferProgress(one.allocation_id, total, total)
    assert isinstance(completed, Completed)
    expected = bytearray(4 * MIB)
    expected[MIB : 3 * MIB + 3] = DATA[10 : 2 * MIB + 13]
    assert await read(system, other) == bytes(expected)
    assert system.backed() == before


async def test_without_verification_nothing_is_hashed(system: System) -> None:
    one, other = await system.lend(CARD), await system.lend(HOST)
    events = await run(copy(system, one.allocation_id, other.allocation_id, verify=False))

    assert PhaseStarted(Phase.VERIFYING) not in events
    assert system.buffers.moves == [("cuda:0", MIB)]


@pytest.mark.parametrize(
    ("begin", "end", "length", "fits"),
    [
        (0, 0, 10, False),
        (0, 9, 10, False),
        (9, 0, 10, False),
        (0, 10, 10, True),
        (10, 0, 10, True),
    ],
)
async def test_regions_of_one_allocation_must_not_overlap(
    system: System, begin: int, end: int, length: int, fits: bool
) -> None:
    one = await system.lend(HOST, 100)
    await write(system, one, DATA[:100])
    copying = copy(system, one.allocation_id, one.allocation_id, begin, end, length)

    if not fits:
        with pytest.raises(InvalidMemoryRequest) as refused:
            await run(copying)
        assert refused.value.reason is Reason.FIELDS_CONFLICT
        assert await read(system, one) == DATA[:100]
        return
    await run(copying)
    assert await read(system, one, end, length) == DATA[begin : begin + length]


async def test_what_is_out_of_range_or_missing_never_starts(system: System) -> None:
    one, small = await system.lend(HOST, 100), await system.lend(HOST, 50)

    for begin, end, length, of in (
        (101, 0, 0, "source"),
        (0, 0, 101, "source"),
        (0, 0, 0, "target"),
        (0, 1, 50, "target"),
        (0, 51, 1, "target"),
    ):
        with pytest.raises(OffsetOutOfRange) as past:
            await run(copy(system, one.allocation_id, small.allocation_id, begin, end, length))
        assert past.value.metadata["field"] == f"{of}_offset_bytes"
    with pytest.raises(AllocationNotFound):
        await run(copy(system, one.allocation_id, "nobody"))
    with pytest.raises(InvalidMemoryRequest):
        await run(copy(system, "", ""))
    assert system.sessions.all() == ()


@pytest.mark.parametrize(("source", "target"), [(HOST, CARD), (CARD, OTHER_CARD)], ids=str)
async def test_damage_on_the_way_is_found(system: System, source: Place, target: Place) -> None:
    one, other = await system.lend(source), await system.lend(target)
    system.buffers.corrupt = True

    with pytest.raises(SessionFailed) as failed:
        await run(copy(system, one.allocation_id, other.allocation_id))

    assert failed.value.reason is Reason.DATA_CORRUPTED
    facts = failed.value.metadata
    assert facts["equal_bytes"] == "0"


async def test_damage_within_main_memory_is_found(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await system.lend(HOST), await system.lend(HOST)
    await write(system, one, DATA[:MIB])
    monkeypatch.setattr("ctypes.memmove", lambda *_: None)

    with pytest.raises(SessionFailed) as failed:
        await run(copy(system, one.allocation_id, other.allocation_id))

    assert failed.value.reason is Reason.DATA_CORRUPTED
    assert failed.value.metadata["equal_bytes"] == "0"


@pytest.mark.parametrize(("source", "target"), [(HOST, CARD), (CARD, OTHER_CARD)], ids=str)
async def test_a_cancelled_copy_stops_and_leaves_both_usable(
    system: System, source: Place, target: Place
) -> None:
    one, other = await system.lend(source, 8 * MIB), await system.lend(target, 8 * MIB)
    before, tasks = system.backed(), len(asyncio.all_tasks())
    system.buffers.gate.clear()
    running = asyncio.create_task(run(copy(system, one.allocation_id, other.allocation_id)))
    for _ in range(500):
        if system.buffers.moves:  # it has begun and waits at the gate
            break
        await asyncio.sleep(0.01)
    (session,) = system.sessions.all()

    session.request_cancel(Reason.CANCELLED_BY_CLIENT)

    with pytest.raises(SessionCancelled):
        await running
    assert system.backed() == before
    # The queue's runner stays; nothing that reads or writes does.
    assert len(asyncio.all_tasks()) <= tasks + 1
    system.buffers.gate.set()
    await run(copy(system, one.allocation_id, other.allocation_id))
    assert await system.service.leases.delete(ANN, one.allocation_id) == 8 * MIB


async def test_a_dropped_stream_cancels_unless_it_is_detached(system: System) -> None:
    one, other = await system.lend(CARD), await system.lend(HOST)
    system.buffers.gate.clear()
    for options in (WorkOptions(), WorkOptions(on_disconnect=OnDisconnect.DETACH)):
        events = copy(system, one.allocation_id, other.allocation_id, options=options)
        await anext(events)
        await events.aclose()
    dropped, detached = system.sessions.all()
    system.buffers.gate.set()
    for _ in range(500):
        if detached.state.final:
            break
        await asyncio.sleep(0.01)

    assert dropped.state.value == "cancelled"
    assert detached.state.value == "completed"


async def test_the_same_request_again_follows_the_same_session(system: System) -> None:
    one, other = await system.lend(HOST), await system.lend(HOST)
    options = WorkOptions(request_id=KEY)
    for _ in range(2):
        await run(copy(system, one.allocation_id, other.allocation_id, options=options))
    await system.service.leases.delete(ANN, one.allocation_id)
    await run(copy(system, one.allocation_id, other.allocation_id, options=options))

    assert len(system.sessions.all()) == 1


async def test_a_lost_worker_fails_the_copy(system: System) -> None:
    one, other = await system.lend(HOST), await system.lend(CARD)
    system.buffers.lost.add("cuda:0")

    with pytest.raises(SessionFailed) as failed:
        await run(copy(system, one.allocation_id, other.allocation_id))

    assert failed.value.reason is Reason.WORKER_LOST


# Transfers.


@pytest.mark.parametrize(
    ("source", "target"), list(itertools.permutations(EVERYWHERE, 2)), ids=str
)
async def test_a_transfer_keeps_id_and_bytes_and_frees_the_old_memory(
    system: System, source: Place, target: Place
) -> None:
    one = await system.lend(source, 2 * MIB + 5)
    await write(system, one, DATA[: 2 * MIB + 5])

    events = await run(transfer(system, one.allocation_id, target))

    assert isinstance(events[-1], Completed)
    (now,) = system.service.leases.renew(ANN, [one.allocation_id], 60)
    assert now.place == target
    assert await read(system, one) == DATA[: 2 * MIB + 5]
    assert system.backed() == 2 * MIB + 5
    assert system.ledger.reserved(target) == 0
    assert bool(system.buffers.pinned) is target.pinned


async def test_what_is_not_pinned_any_more_at_the_end_is_not_called_so(
    system: System,
) -> None:
    held = await system.lend(CPU, MIB)
    system.buffers.gate.clear()
    wanted = transfer(system, held.allocation_id, Place(pinned=True), verify=False)
    moving = asyncio.create_task(run(wanted))
    await system.buffers.begun.wait()
    assert [device_id for device_id, _ in system.buffers.pinned] == ["cuda:0"]

    system.buffers.lose("cuda:0")
    system.buffers.gate.set()
    await moving

    (now,) = system.service.leases.renew(ANN, [held.allocation_id], 60)
    assert now.place == HOST


async def test_what_a_transfer_has_taken_is_counted_once(system: System) -> None:
    size, whole = 4 * MIB, 16 * MIB
    held = await system.lend(HOST, size)
    system.meter.tell("cuda:0", whole, whole)
    system.buffers.gate.clear()  # its bytes are under way for long
    moving = asyncio.create_task(run(transfer(system, held.allocation_id, CARD, verify=False)))
    await system.buffers.begun.wait()
    system.meter.tell("cuda:0", whole, whole - size)  # its worker tells so at once

    beside = await system.lend(CARD, whole - size)

    assert beside.place == CARD
    system.buffers.gate.set()
    await moving
    assert system.ledger.held("ann", "cuda:0") == whole


async def test_a_transfer_to_where_it_is_does_nothing(system: System) -> None:
    one = await system.lend(CARD)

    assert isinstance((await run(transfer(system, one.allocation_id, CARD)))[-1], Completed)
    assert system.buffers.moves == []


async def test_a_transfer_that_cannot_fit_is_refused_and_harms_nothing(
    system: System,
) -> None:
    one = await system.lend(HOST, 2 * MIB)
    await write(system, one, DATA[: 2 * MIB])
    system.meter.tell("cuda:0", 4 * MIB, MIB)

    with pytest.raises(SessionFailed) as failed:
        await run(transfer(system, one.allocation_id, CARD))

    assert failed.value.reason is Reason.DEVICE_OUT_OF_MEMORY
    assert failed.value.metadata["needed_bytes"] == str(2 * MIB)
    assert failed.value.metadata["free_bytes"] == str(MIB)
    assert await read(system, one) == DATA[: 2 * MIB]
    assert system.backed() == 2 * MIB


async def test_a_transfer_that_arrives_damaged_stays_where_it_was(system: System) -> None:
    one = await system.lend(HOST)
    await write(system, one, DATA[:MIB])
    system.buffers.corrupt = True

    with pytest.raises(SessionFailed) as failed:
        await run(transfer(system, one.allocation_id, CARD))

    assert failed.value.reason is Reason.DATA_CORRUPTED
    assert await read(system, one) == DATA[:MIB]
    assert system.backed() == MIB
    assert system.ledger.reserved(CARD) == 0


async def test_a_worker_that_dies_in_a_transfer_leaves_one_story(system: System) -> None:
    one = await system.lend(CARD)
    system.buffers.gate.clear()
    running = asyncio.create_task(run(transfer(system, one.allocation_id, HOST)))
    await asyncio.sleep(0.02)
    system.buffers.lose("cuda:0")
    system.buffers.gate.set()

    with pytest.raises(DomainError):
        await running
    with pytest.raises(AllocationNotFound, match="worker"):
        system.ledger.get(ANN, one.allocation_id)
    assert system.backed() == 0


async def test_requests_that_name_nothing_are_refused(system: System) -> None:
    for wanted in (("", HOST), ("x", None), ("x", Place("a b"))):
        with pytest.raises(InvalidMemoryRequest):
            await run(transfer(system, *wanted))
    with pytest.raises(AllocationNotFound):
        await run(transfer(system, "x", HOST))


async def test_places_that_cannot_be_had_are_refused_before_anything_moves(
    system: System,
) -> None:
    one = await system.lend(HOST)

    with pytest.raises(DeviceNotFound):
        await run(transfer(system, one.allocation_id, Place("mps:0")))
    system.buffers.can_pin = False
    with pytest.raises(SessionFailed) as unpinned:
        await run(transfer(system, one.allocation_id, Place(pinned=True)))

    assert unpinned.value.reason is Reason.DEVICE_UNSUPPORTED
    assert system.backed() == MIB


async def test_a_transfer_keeps_the_quota_of_where_it_goes() -> None:
    system = build(quota_bytes=3 * MIB)
    await system.inventory.discover()
    one = await system.lend(HOST, 2 * MIB)
    await system.lend(CARD, 2 * MIB)

    with pytest.raises(SessionFailed) as refused:
        await run(transfer(system, one.allocation_id, CARD))

    assert refused.value.reason is Reason.CLIENT_QUOTA_EXCEEDED
    await system.sessions.stop(0)
    system.segments.close()


async def test_what_another_copy_uses_is_neither_copied_over_nor_moved(
    system: System,
) -> None:
    """Copies into other memories run at the same time, and so can meet."""
    one, other, third = [await system.lend(place) for place in (HOST, CARD, OTHER_CARD)]
    async with system.ledger.copying(ANN, one.allocation_id, other.allocation_id):
        meeting = (
            copy(system, third.allocation_id, one.allocation_id),
            copy(system, other.allocation_id, third.allocation_id),
            transfer(system, one.allocation_id, OTHER_CARD),
        )
        for events in meeting:
            with pytest.raises(SessionFailed) as refused:
                await run(events)
            assert refused.value.reason is Reason.STATE_CONFLICT
        await run(copy(system, one.allocation_id, third.allocation_id))  # both only read it
    assert all(not lease.busy for lease in system.ledger.all())
