"""Two things at once: no memory is given twice, and uses that exclude each other take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import pytest

from domains.errors import Reason
from domains.memory.errors import AllocationBusy, OutOfMemory
from domains.memory.types import (
    Allocation,
    AllocationRequest,
    Move,
)
from domains.session.errors import SessionFailed
from domains.uploads import UploadCompletion, UploadPart
from tests.domains.memory.conftest import ANN, BOB, CARD, HOST, MIB, OTHER_CARD, USED, System
from tests.domains.memory.test_access import header, read, sha256, write
from tests.domains.memory.test_copies import copy, run, transfer

KEY = "6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a333"


class Gate:
    """Holds every allocation on a device, from when it has begun until the gate opens."""

    def __init__(self, system: System) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.calls = 0
        self._allocate = system.buffers.allocate
        system.buffers.allocate = self._held  # type: ignore[method-assign]

    async def _held(self, device_id: str, buffer_id: str, size: int) -> None:
        self.calls += 1
        self.begun.set()
        await self.open.wait()
        await self._allocate(device_id, buffer_id, size)


async def finishes(task: asyncio.Task[Allocation], gate: Gate) -> Allocation:
    gate.open.set()
    return await task


async def test_what_is_being_taken_is_not_given_to_another(system: System) -> None:
    system.meter.tell("cuda:0", 100 * MIB, 10 * MIB)
    gate = Gate(system)
    first = asyncio.create_task(system.lend(CARD, 6 * MIB))
    await gate.begun.wait()

    with pytest.raises(OutOfMemory) as refused:
        await system.lend(CARD, 6 * MIB, caller=BOB)

    assert refused.value.metadata["free_bytes"] == str(4 * MIB)
    assert (await finishes(first, gate)).size_bytes == 6 * MIB
    assert system.backed() == 6 * MIB


async def test_an_eviction_for_one_does_not_give_it_what_another_is_taking(
    system: System,
) -> None:
    """The model frees less than its size: what it freed counts, less what is being taken."""
    system.models.hold("cuda:0", "idle", 5 * MIB, used=USED)
    system.models.on_release = lambda _: system.meter.tell("cuda:0", 100 * MIB, 11 * MIB)
    system.meter.tell("cuda:0", 100 * MIB, 10 * MIB)
    gate = Gate(system)
    first = asyncio.create_task(system.lend(CARD, 8 * MIB))
    await gate.begun.wait()

    with pytest.raises(OutOfMemory):
        await system.lend(CARD, 6 * MIB, caller=BOB)

    assert system.models.released == ["idle"]
    await finishes(first, gate)
    assert system.backed() == 8 * MIB


async def test_a_caller_with_a_request_id_that_gives_up_finds_its_allocation_later(
    system: System,
) -> None:
    wanted = AllocationRequest(CARD, MIB, request_id=KEY)
    gate = Gate(system)
    allocate = system.service.leases.create
    impatient = asyncio.create_task(allocate(ANN, wanted))
    patient = asyncio.create_task(allocate(ANN, wanted))
    await gate.begun.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient

    made = await finishes(patient, gate)

    assert await allocate(ANN, wanted) == made
    assert gate.calls == 1
    assert system.backed() == MIB


Use = Callable[[System, Allocation, Allocation], Awaitable[None]]


async def _copy(system: System, source: Allocation, target: Allocation) -> None:
    await run(copy(system, source.allocation_id, target.allocation_id))


async def _transfer(system: System, source: Allocation, target: Allocation) -> None:
    await run(transfer(system, source.allocation_id, OTHER_CARD))


async def _delete(system: System, source: Allocation, target: Allocation) -> None:
    await system.service.leases.delete(ANN, source.allocation_id)


@pytest.mark.parametrize(
    ("use", "touched"),
    [(_copy, "source"), (_copy, "target"), (_transfer, "source"), (_delete, "source")],
)
async def test_what_a_short_write_touches_is_used_when_the_write_has_ended(
    system: System, use: Use, touched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = await system.lend(CARD), await system.lend(CARD)
    held = source if touched == "source" else target
    order: list[str] = []
    waits = asyncio.Event()
    still = system.ledger.still

    def used(*_: object) -> None:
        order.append("used")

    async def waiting(*leases: object) -> None:
        waits.set()
        await still(*leases)  # type: ignore[arg-type]

    monkeypatch.setattr(system.ledger, "still", waiting)
    move, free = system.buffers.move, system.buffers.free

    async def moving(device_id: str, asked: Move) -> AsyncGenerator[int]:
        used()
        async for done in move(device_id, asked):
            yield done

    async def freeing(device_id: str, buffer_id: str) -> int:
        used()
        return await free(device_id, buffer_id)

    monkeypatch.setattr(system.buffers, "move", moving)
    monkeypatch.setattr(system.buffers, "free", freeing)

    async with system.ledger.touching(ANN, held.allocation_id):
        using = asyncio.ensure_future(use(system, source, target))
        either = {asyncio.ensure_future(waits.wait()), using}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        order.append("written")
    await using

    assert order[0] == "written"
    assert "used" in order


async def test_bytes_on_their_way_to_a_device_are_refused_once_a_copy_uses_it(
    system: System,
) -> None:
    one, other = await system.lend(CARD), await system.lend(HOST)
    await write(system, one, b"before")

    async def parts() -> AsyncIterator[UploadPart]:
        yield b"behind"  # gathered in a slot: it goes to the device at the end
        async with system.ledger.copying(ANN, one.allocation_id, other.allocation_id):
            yield UploadCompletion(sha256(b"behind"))

    with pytest.raises(AllocationBusy):
        await system.service.access.write(ANN, header(one, 6), parts())

    assert await read(system, one, 0, 6) == b"before"
    assert system.backed() == 2 * MIB


async def test_a_worker_that_dies_at_the_end_of_a_transfer_leaves_nothing(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has done its part: what the transfer took elsewhere belongs to nothing any more."""
    one = await system.lend(CARD)
    move = system.buffers.move

    async def dying(device_id: str, asked: Move) -> AsyncGenerator[int]:
        async for done in move(device_id, asked):
            yield done
        system.buffers.lose(device_id)

    monkeypatch.setattr(system.buffers, "move", dying)

    with pytest.raises(SessionFailed) as failed:
        await run(transfer(system, one.allocation_id, HOST, verify=False))

    assert failed.value.reason is Reason.ALLOCATION_NOT_FOUND
    assert failed.value.metadata["cause"] == "worker_lost"
    assert system.backed() == 0
    assert system.ledger.reserved(HOST) == 0
