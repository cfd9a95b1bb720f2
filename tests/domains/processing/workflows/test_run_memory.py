"""Memory that a run holds: taken once, renewed while the run lasts, freed at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domains.clients import Caller, Role
from domains.errors import DomainError
from domains.memory.core.leases import Leases
from domains.memory.errors import AllocationNotFound
from domains.memory.types import AllocationRequest
from domains.processing.workflows.core.run_memory import RunMemory
from tests.domains.memory.conftest import ADMIN, ANN, BOB, CARD, CPU, HOST, MIB, System, build

RUN = Caller(ANN.name, Role.RUN)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    """Main memory and cards, of which nothing is left afterwards."""
    made = build()
    await made.inventory.discover()
    yield made
    await made.sessions.stop(0)
    await made.service.leases.close()
    made.segments.close()


@pytest.fixture
def leases(system: System) -> Leases:
    return system.service.leases


async def held(leases: Leases) -> list[str]:
    page = await leases.list(ADMIN, None, page_size=0, page_token="")
    return [each.allocation_id for each in page.items]


async def test_what_is_not_kept_is_freed_at_the_end(leases: Leases) -> None:
    """By whoever it was taken: others' memory is not touched."""
    others = await leases.create(BOB, AllocationRequest(HOST, MIB))
    memory = RunMemory(leases)
    first = await memory.allocate(0, RUN, AllocationRequest(HOST, MIB), keep=False)
    second = await memory.allocate(1, RUN, AllocationRequest(CPU, MIB), keep=True)
    assert [first.owner, second.place.device_id] == [ANN.name, "cpu:0"]
    memory.end(RUN)
    await memory.ended()
    assert await held(leases) == [others.allocation_id, second.allocation_id]
    memory.end(RUN)  # a session ends once, and asking again harms nothing
    await memory.ended()


async def test_a_run_that_was_paused_finds_what_it_has_and_frees_once(leases: Leases) -> None:
    memory = RunMemory(leases)
    taken = [
        await memory.allocate(3, RUN, AllocationRequest(HOST, MIB), keep=False)
        for _ in range(2)
    ]
    assert taken[0] is taken[1]
    assert await held(leases) == [taken[0].allocation_id]
    for _ in range(2):
        await memory.free(RUN, taken[0].allocation_id)
        assert await held(leases) == []
    again = await memory.allocate(3, RUN, AllocationRequest(HOST, MIB), keep=False)
    assert again is taken[0]  # its step had ended, and so had the one that freed it


async def test_what_is_being_freed_when_the_run_pauses_is_known_to_be_free(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step does it again afterwards, and must not find it gone."""
    memory = RunMemory(leases)
    mine = await leases.create(ANN, AllocationRequest(HOST, MIB))
    freed, go_on, delete = asyncio.Event(), asyncio.Event(), leases.delete

    async def slow(caller: Caller, allocation_id: str) -> int:
        size = await delete(caller, allocation_id)
        freed.set()
        await go_on.wait()
        return size

    monkeypatch.setattr(leases, "delete", slow)
    freeing = asyncio.create_task(memory.free(RUN, mine.allocation_id))
    await freed.wait()
    freeing.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await freeing
    await memory.free(RUN, mine.allocation_id)


async def test_it_frees_what_is_the_clients_and_nothing_else(leases: Leases) -> None:
    memory = RunMemory(leases)
    mine = await leases.create(ANN, AllocationRequest(HOST, MIB))
    others = await leases.create(BOB, AllocationRequest(HOST, MIB))
    await memory.free(RUN, mine.allocation_id)
    for missing in (others.allocation_id, "never-was"):
        with pytest.raises(AllocationNotFound):
            await memory.free(RUN, missing)
    assert await held(leases) == [others.allocation_id]


async def test_leases_are_renewed_while_the_run_lasts_and_no_longer(
    system: System, leases: Leases
) -> None:
    """By a clock of its own; the lease's is moved by hand."""
    naps: asyncio.Queue[float] = asyncio.Queue()
    may_go_on = asyncio.Event()

    async def nap(seconds: float) -> None:
        naps.put_nowait(seconds)
        await may_go_on.wait()
        may_go_on.clear()

    memory = RunMemory(leases, nap)
    kept = await memory.allocate(
        0, RUN, AllocationRequest(HOST, MIB, lease_seconds=30.0), keep=True
    )
    for _ in range(3):
        async with asyncio.timeout(10):
            assert await naps.get() == 10.0
        system.time.move(20)
        may_go_on.set()
    async with asyncio.timeout(10):
        await naps.get()
    await leases.sweep()
    assert await held(leases) == [kept.allocation_id]
    memory.end(RUN)
    await memory.ended()
    system.time.move(31)
    may_go_on.set()
    await leases.sweep()
    assert await held(leases) == []


async def test_what_is_gone_before_the_end_costs_nothing(leases: Leases) -> None:
    """Freed by the client itself; its renewal ends by itself."""

    async def nap(seconds: float) -> None:
        await asyncio.sleep(0)

    memory = RunMemory(leases, nap)
    gone = await memory.allocate(0, RUN, AllocationRequest(HOST, MIB), keep=False)
    await leases.delete(ANN, gone.allocation_id)
    memory.end(RUN)
    await memory.ended()
    assert await held(leases) == []


async def test_what_cannot_be_taken_is_no_memory_of_the_run(leases: Leases) -> None:
    memory = RunMemory(leases)
    wanted = AllocationRequest(CARD, 1 << 39)
    with pytest.raises(DomainError):
        await memory.allocate(0, RUN, wanted, keep=False)
    smaller = await memory.allocate(0, RUN, AllocationRequest(HOST, MIB), keep=False)
    assert await held(leases) == [smaller.allocation_id]
