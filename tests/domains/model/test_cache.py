"""The cache over a real arena and real files: filled, shared, evicted, and never wrong."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from domains.device.core.facts import TransientFacts
from domains.errors import Cancelled, FailedPrecondition, Reason
from domains.memory.types import HostMemory
from domains.model.backends.arena import Arena, arena_bytes, open_arena
from domains.model.backends.weight_reading import ParallelReader
from domains.model.backends.weight_states import WeightStates, unchanged
from domains.model.core.cache import ModelCache
from domains.model.core.cache_budget import CacheBudget
from domains.model.core.cache_lease import CacheLease
from domains.model.core.cache_memory import CacheMemory
from domains.model.errors import BudgetTooSmall, CachedModelInUse, CacheFull
from domains.model.types import FileState
from domains.values import ByteFigure, EvictionCause, ModelPlace

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="the arena of this system has no file"
)

MIB = 1 << 20
PATIENCE = 60


def figure(value: int) -> ByteFigure:
    return ByteFigure.measured(value, "a fake")


class Main:
    """Main memory as it is told to be."""

    def __init__(self) -> None:
        self.total = 1 << 40
        self.available = 1 << 40

    def read(self) -> HostMemory:
        nothing = figure(0)
        return HostMemory(
            figure(self.total), figure(self.available), nothing, nothing, nothing, None
        )


class HeldReader(ParallelReader):
    """Reads when it may: `begun` says that it has come to the first piece."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def read(self, place: ModelPlace, files: Any, on_bytes: Callable[[int], None]) -> None:
        def counted(count: int) -> None:
            self.begun.set()
            assert self.go.wait(PATIENCE)
            on_bytes(count)

        super().read(place, files, counted)


class Kept:
    """A cache of 10 MiB and what happened in it."""

    def __init__(self, folder: Path, *, budget: int | None = 10 * MIB) -> None:
        self.folder = folder
        self.main = Main()
        self.reader = HeldReader()
        self.facts = TransientFacts()
        self.events: list[tuple[str, EvictionCause | None]] = []
        self.ticks = 0
        self.cards = True
        self.budget = CacheBudget(self.facts, budget, has_cards=lambda: self.cards)
        self.memory = CacheMemory(self.budget, self.main, self.make_arena, spared=0.2)
        self.states = WeightStates()
        self.cache = ModelCache(
            *(self.reader, self.memory, self.states),
            now=self.now,
            changed=lambda *one: self.events.append(one),
        )

    def make_arena(self, budget: int, total: int) -> Arena:
        return Arena(arena_bytes(budget, 64 * MIB))

    def now(self) -> datetime:
        self.ticks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.ticks)

    def model(self, name: str, size: int = 3 * MIB) -> ModelPlace:
        (self.folder / name).write_bytes(os.urandom(size))
        return ModelPlace(self.folder, Path(name))

    async def hold(self, name: str, size: int = 3 * MIB) -> CacheLease:
        """A lease of a model that is all there; its file is made where there is none."""
        place = ModelPlace(self.folder, Path(name))
        if not (self.folder / name).exists():
            self.model(name, size)
        lease = await self.cache.lease(name, place, fill=True)
        assert lease is not None
        async with aclosing(lease.filled()) as steps:
            async for progress in steps:
                assert progress.item == name
        return lease

    async def keep(self, name: str, size: int = 3 * MIB) -> None:
        (await self.hold(name, size)).end()

    @property
    def names(self) -> list[str]:
        return [entry.model_id for entry in self.cache.entries()]

    @property
    def taken(self) -> int:
        assert isinstance(self.memory.arena, Arena)
        return self.memory.arena.taken_bytes()


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.reader.go.set()
    await made.cache.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nothing tells of the last step
            await asyncio.sleep(0.005)


async def test_a_worker_finds_the_bytes_of_the_file(kept: Kept) -> None:
    lease = await kept.hold("one", 3 * MIB + 5)
    cached = lease.cached

    memory = open_arena(cached.arena, cached.arena_bytes)

    (file,) = cached.files
    found = memory[file.offset_bytes : file.offset_bytes + file.size_bytes]
    assert bytes(found) == (kept.folder / "one").read_bytes()
    assert (file.name, file.size_bytes) == ("", 3 * MIB + 5)
    assert file.modified_ns == (kept.folder / "one").stat().st_mtime_ns
    assert file.offset_bytes % 4096 == 0
    assert kept.events == [("one", None)]
    lease.end()


async def test_two_who_want_it_at_once_have_it_read_once(kept: Kept) -> None:
    kept.reader.go.clear()
    first = asyncio.create_task(kept.hold("one"))
    await asyncio.to_thread(kept.reader.begun.wait, PATIENCE)
    second = asyncio.create_task(kept.hold("one"))
    await asyncio.sleep(0)
    kept.reader.go.set()

    leases = await asyncio.gather(first, second)

    assert leases[0].cached == leases[1].cached
    assert kept.taken == 3 * MIB
    for lease in leases:
        lease.end()


async def test_what_was_not_used_for_longest_makes_room(kept: Kept) -> None:
    for name in ("one", "two", "three"):
        await kept.keep(name)
    await kept.keep("one")
    await kept.keep("four")
    await kept.memory.settle()

    assert kept.names == ["three", "one", "four"]
    assert kept.events[-2:] == [("two", EvictionCause.ROOM), ("four", None)]
    assert kept.taken == kept.cache.used_bytes == 9 * MIB


async def test_what_is_leased_or_pinned_stays_and_what_does_not_fit_is_refused(
    kept: Kept,
) -> None:
    held = await kept.hold("held")
    await kept.keep("pinned")
    kept.cache.pin("pinned", pinned=True)
    await kept.keep("idle")

    with pytest.raises(CacheFull) as refused:
        await kept.hold("big", 6 * MIB)
    assert refused.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert kept.names == ["held", "pinned", "idle"]

    held.end()
    await kept.keep("big", 6 * MIB)
    assert kept.names == ["pinned", "big"]


async def test_it_leaves_others_their_share_of_main_memory(kept: Kept) -> None:
    kept.main.total, kept.main.available = 100 * MIB, 24 * MIB  # a fifth is others'

    await kept.keep("small", 3 * MIB)
    kept.main.available = 21 * MIB
    await kept.keep("other", 4 * MIB)  # in place of the first

    assert kept.names == ["other"]
    kept.main.available = 5 * MIB
    with pytest.raises(CacheFull, match="may take 0"):
        await kept.hold("third", 5 * MIB)
    assert kept.names == ["other"]


async def test_eviction_frees_memory_and_waits_for_nobody(kept: Kept) -> None:
    lease = await kept.hold("one")
    with pytest.raises(CachedModelInUse):
        await kept.cache.evict("one")
    lease.end()

    assert await kept.cache.evict("one") == 3 * MIB
    assert kept.taken == kept.cache.used_bytes == 0
    assert await kept.cache.evict("one") is None
    assert kept.events[-1] == ("one", EvictionCause.REQUESTED)


async def test_a_reading_that_nobody_waits_for_any_more_leaves_nothing(kept: Kept) -> None:
    kept.reader.go.clear()
    place = kept.model("one", 9 * MIB)
    lease = await kept.cache.lease("one", place, fill=True)
    assert lease is not None
    await asyncio.to_thread(kept.reader.begun.wait, PATIENCE)

    lease.end()
    kept.reader.go.set()
    await until(lambda: kept.cache.used_bytes == 0)

    assert kept.taken == 0
    assert kept.names == []
    assert kept.events == []
    with pytest.raises(Cancelled):
        async for _ in lease.filled():
            pass
    await kept.keep("one")
    assert kept.names == ["one"]


async def test_a_new_reading_begins_while_a_given_up_one_still_ends(kept: Kept) -> None:
    kept.reader.go.clear()
    place = kept.model("one", 4 * MIB)
    first = await kept.cache.lease("one", place, fill=True)
    assert first is not None
    await asyncio.to_thread(kept.reader.begun.wait, PATIENCE)
    first.end()
    second = asyncio.create_task(kept.hold("one"))
    await until(lambda: kept.cache.used_bytes == 8 * MIB)
    kept.reader.go.set()

    lease = await second

    memory = open_arena(lease.cached.arena, lease.cached.arena_bytes)
    begin = lease.cached.files[0].offset_bytes
    assert bytes(memory[begin : begin + 4 * MIB]) == (kept.folder / "one").read_bytes()
    lease.end()
    await until(lambda: kept.taken == 4 * MIB)


@pytest.mark.parametrize("change", ["longer", "shorter", "touched"])
async def test_a_file_that_changes_while_it_is_read_is_not_kept(
    kept: Kept, change: str
) -> None:
    kept.reader.go.clear()
    place = kept.model("one", 3 * MIB)
    path = kept.folder / "one"
    lease = await kept.cache.lease("one", place, fill=True)
    assert lease is not None
    await asyncio.to_thread(kept.reader.begun.wait, PATIENCE)
    if change == "touched":
        os.utime(path, ns=(1, 1))
    else:
        os.truncate(path, (4 if change == "longer" else 1) * MIB)
    kept.reader.go.set()

    with pytest.raises(FailedPrecondition) as failed:
        async for _ in lease.filled():
            pass
    lease.end()

    assert failed.value.reason is Reason.MODEL_TRUNCATED
    assert kept.names == []
    await until(lambda: kept.taken == 0)


async def test_a_file_that_was_replaced_is_read_anew(kept: Kept) -> None:
    old = await kept.hold("one")
    kept.model("one", 2 * MIB)

    new = await kept.hold("one")

    assert new.cached.files[0].size_bytes == 2 * MIB
    assert kept.events == [("one", None), ("one", EvictionCause.FILE_CHANGED), ("one", None)]
    assert kept.cache.used_bytes == 5 * MIB  # the old one is still leased
    old.end()
    await until(lambda: kept.cache.used_bytes == 2 * MIB)
    new.end()


class HeldLook:
    """Looks at files when it may: `begun` says that one is under way."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, place: ModelPlace, files: Collection[FileState]) -> bool:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        return unchanged(place, files)


@pytest.mark.parametrize("changed", [False, True])
async def test_a_model_evicted_while_its_files_are_looked_at_is_read_again(
    kept: Kept, changed: bool
) -> None:
    """Its addresses are another model's by then."""
    await kept.keep("one", 6 * MIB)
    if changed:
        kept.model("one", 6 * MIB)
        os.utime(kept.folder / "one", ns=(1, 1))
    look = HeldLook()
    kept.cache._states = WeightStates(look)
    leasing = asyncio.create_task(kept.hold("one"))
    revising = asyncio.create_task(
        kept.cache.revise(lambda name: ModelPlace(kept.folder, Path(name)))
    )
    assert await asyncio.to_thread(look.begun.wait, PATIENCE)
    await kept.keep("two", 6 * MIB)
    assert kept.names == ["two"]

    look.go.set()
    await revising
    lease = await leasing

    assert isinstance(kept.memory.arena, Arena)
    (file,) = lease.cached.files
    held = kept.memory.arena.memory[file.offset_bytes : file.offset_bytes + file.size_bytes]
    assert bytes(held) == (kept.folder / "one").read_bytes()
    assert kept.names == ["one"]
    lease.end()


async def test_what_left_the_catalogue_or_changed_on_disk_is_let_go(kept: Kept) -> None:
    places = {name: kept.model(name) for name in ("gone", "moved", "changed")}
    for name in places:
        await kept.keep(name)
    kept.cache.pin("gone", pinned=True)
    del places["gone"]
    places["moved"] = ModelPlace(kept.folder / "elsewhere", Path("moved"))
    os.utime(kept.folder / "changed", ns=(1, 1))

    await kept.cache.revise(places.get)

    assert kept.names == []
    assert {cause for _, cause in kept.events[3:]} == {EvictionCause.FILE_CHANGED}
    assert kept.taken == 0


async def test_the_budget_changes_while_it_runs(kept: Kept) -> None:
    for name in ("one", "two", "three"):
        await kept.keep(name)
    held = await kept.hold("two")

    await kept.cache.set_budget(4 * MIB)
    assert kept.names == ["two"]
    assert kept.taken == 3 * MIB
    assert (await kept.cache.status()).budget_bytes == 4 * MIB
    with pytest.raises(BudgetTooSmall):
        await kept.cache.set_budget(2 * MIB)
    assert (await kept.cache.status()).budget_bytes == 4 * MIB
    held.end()
    await kept.cache.set_budget(None)
    assert (await kept.cache.status()).budget_bytes == 10 * MIB
    await kept.cache.set_budget(0)
    assert kept.names == []


async def test_a_model_that_comes_into_use_while_the_budget_changes_stays(kept: Kept) -> None:
    for name in ("one", "two", "three"):
        await kept.keep(name)
    leases: list[CacheLease] = []
    changed = kept.cache._changed

    def use_the_next(model_id: str, cause: EvictionCause | None) -> None:
        changed(model_id, cause)
        if model_id == "one":
            entry = kept.memory.ledger.find("two")
            assert entry is not None
            kept.memory.ledger.lease(entry)
            leases.append(CacheLease(entry, None, kept.memory.arena, kept.cache._release))

    kept.cache._changed = use_the_next
    await kept.cache.set_budget(4 * MIB)

    assert kept.names == ["two"]
    leases[0].end()


def test_a_chosen_budget_holds_until_the_setting_changes() -> None:
    facts = TransientFacts()
    CacheBudget(facts, 10, has_cards=lambda: True).choose(7)

    assert CacheBudget(facts, 10, has_cards=lambda: True).of(100) == 7
    assert CacheBudget(facts, 20, has_cards=lambda: True).of(100) == 20
    assert CacheBudget(facts, None, has_cards=lambda: True).of(100) == 25
    assert CacheBudget(facts, None, has_cards=lambda: False).of(100) == 12
    again = CacheBudget(facts, 10, has_cards=lambda: True)
    again.choose(None)
    assert again.of(100) == 10


async def test_without_memory_that_workers_can_read_nothing_is_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path)

    def refuse(budget: int, total: int) -> Arena:
        raise OSError("this system has none")

    memory = CacheMemory(kept.budget, kept.main, refuse, spared=0.2)
    cache = ModelCache(kept.reader, memory, kept.states, now=kept.now)

    with pytest.raises(CacheFull, match="this system has none"):
        await cache.lease("one", kept.model("one"), fill=True)
    status = await cache.status()
    assert (status.shared, status.budget_bytes) == (False, 0)
    assert "this system has none" in status.remark


async def test_loads_are_counted_by_where_they_came_from(kept: Kept) -> None:
    kept.cache.count_load("one", cached=False)
    await kept.keep("one")
    kept.cache.count_load("one", cached=True)
    kept.cache.count_load("one", cached=True)

    status = await kept.cache.status()

    assert (status.hit_count, status.miss_count, status.eviction_count) == (2, 1, 0)
    assert status.entries[0].hit_count == 2


async def test_two_hundred_cycles_take_no_more_memory_than_one(kept: Kept) -> None:
    places = [kept.model(f"model-{number}", 2 * MIB) for number in range(8)]
    handles = psutil.Process().num_fds()
    for cycle in range(200):
        place = places[cycle % len(places)]
        await kept.keep(place.inside.name)
        if cycle % 7 == 0:
            await kept.cache.evict(place.inside.name)
        assert kept.taken <= 10 * MIB
    await kept.memory.settle()

    assert kept.taken == kept.cache.used_bytes <= 10 * MIB
    assert psutil.Process().num_fds() <= handles + 1
