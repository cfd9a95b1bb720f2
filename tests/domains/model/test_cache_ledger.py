"""Accounting for the arena: whatever is asked, in whatever order, nothing is held twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from domains.model.core.cache_ledger import PAGE_BYTES, CacheEntry, CacheLedger
from domains.model.core.extents import Extent, Extents
from domains.model.types import FileState
from domains.values import ModelPlace

START = datetime(2026, 1, 1, tzinfo=UTC)
PAGES = 64
NAMES = [f"model-{number}" for number in range(6)]


def files(*pages: int) -> list[FileState]:
    """One file for each number: of so many pages, but for one byte."""
    return [FileState(f"{i}.bin", size * PAGE_BYTES - 1, i) for i, size in enumerate(pages)]


def place(model_id: str) -> ModelPlace:
    return ModelPlace(Path("/models"), Path(model_id))


def keep(ledger: CacheLedger, model_id: str, *pages: int, limit: int = PAGES) -> CacheEntry:
    """An entry that is ready and that nobody uses."""
    found = ledger.reserve(
        model_id, place(model_id), files(*pages), limit=limit * PAGE_BYTES, now=START
    )
    assert found is not None
    ledger.returned(found.surplus)
    found.entry.ready = True
    return found.entry


def test_what_was_not_used_for_longest_goes_first() -> None:
    ledger = CacheLedger(PAGES * PAGE_BYTES)
    first, second = keep(ledger, "first", 20), keep(ledger, "second", 20)
    ledger.touch(first, START + timedelta(seconds=1))

    found = ledger.reserve("third", place("third"), files(30), limit=60 * PAGE_BYTES, now=START)

    assert found is not None
    assert found.evicted == (second,)
    assert ledger.find("first") is first
    assert ledger.counts.evictions == 1


def test_nothing_goes_for_what_does_not_fit_anyway() -> None:
    ledger = CacheLedger(PAGES * PAGE_BYTES)
    keep(ledger, "idle", 20)
    keep(ledger, "pinned", 20).pinned = True

    assert ledger.reserve("big", place("big"), files(50), limit=64 * PAGE_BYTES, now=START) is (
        None
    )
    assert [entry.model_id for entry in ledger] == ["idle", "pinned"]


def test_a_model_takes_the_addresses_of_the_one_that_went_for_it() -> None:
    ledger = CacheLedger(1_000 * PAGE_BYTES)
    old = keep(ledger, "old", 30, limit=30)
    begin = old.files[0].offset_bytes

    found = ledger.reserve("new", place("new"), files(20), limit=30 * PAGE_BYTES, now=START)

    assert found is not None
    assert found.entry.files[0].offset_bytes == begin
    assert found.surplus == ((begin + 20 * PAGE_BYTES, 10 * PAGE_BYTES),)


def test_what_is_not_valid_any_more_stays_until_nobody_uses_it() -> None:
    ledger = CacheLedger(PAGES * PAGE_BYTES)
    entry = keep(ledger, "one", 10)
    ledger.lease(entry)

    assert ledger.invalidate(entry) == []
    assert ledger.find("one") is None
    assert ledger.used_bytes == 10 * PAGE_BYTES
    freed = ledger.release(entry)
    assert ledger.used_bytes == 10 * PAGE_BYTES
    ledger.returned(freed)
    assert ledger.used_bytes == 0


def test_a_model_of_a_new_name_may_come_while_the_old_one_is_still_used() -> None:
    ledger = CacheLedger(PAGES * PAGE_BYTES)
    old = keep(ledger, "one", 10)
    ledger.lease(old)
    ledger.invalidate(old)

    new = keep(ledger, "one", 10)

    assert not overlap([*old.extents, *new.extents])


def overlap(extents: list[Extent]) -> bool:
    ordered = sorted(extents)
    return any(begin + size > after for (begin, size), (after, _) in pairwise(ordered))


class Ledger(RuleBasedStateMachine):
    """Anything may happen in any order; a model beside it says what must be true."""

    @initialize(pages=st.integers(8, PAGES))
    def begin(self, pages: int) -> None:
        self.size = pages * PAGE_BYTES
        self.ledger = CacheLedger(self.size)
        self.live: list[CacheEntry] = []
        self.returning: list[Extent] = []
        self.evictions = 0
        self.ticks = 0

    def now(self) -> datetime:
        self.ticks += 1
        return START + timedelta(seconds=self.ticks)

    @rule(
        name=st.sampled_from(NAMES),
        pages=st.lists(st.integers(1, 20), min_size=1, max_size=3),
        limit=st.integers(0, PAGES),
    )
    def reserve(self, name: str, pages: list[int], limit: int) -> None:
        if self.ledger.find(name) is not None:
            return
        before = self.ledger.used_bytes
        idle = self.ledger.evictable()
        found = self.ledger.reserve(
            name, place(name), files(*pages), limit=limit * PAGE_BYTES, now=self.now()
        )
        if found is None:
            assert self.ledger.used_bytes == before
            assert self.ledger.evictable() == idle
            return
        assert found.evicted == tuple(idle[: len(found.evicted)])
        assert self.ledger.used_bytes - sum(s for _, s in found.surplus) <= limit * PAGE_BYTES
        self.live = [entry for entry in self.live if entry not in found.evicted]
        self.live.append(found.entry)
        self.returning += found.surplus
        self.evictions += len(found.evicted)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), ready=st.booleans(), pinned=st.booleans())
    def change(self, data: st.DataObject, ready: bool, pinned: bool) -> None:
        entry = data.draw(st.sampled_from(self.live))
        entry.ready, entry.pinned = entry.ready or ready, pinned

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def lease(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.live))
        if entry.valid:
            self.ledger.lease(entry)
            self.ledger.touch(entry, self.now())

    @precondition(lambda self: any(entry.leases for entry in self.live))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from([one for one in self.live if one.leases]))
        self.freed(entry, self.ledger.release(entry))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def invalidate(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.live))
        self.freed(entry, self.ledger.invalidate(entry))

    def freed(self, entry: CacheEntry, extents: list[Extent]) -> None:
        assert bool(extents) == (not entry.valid and not entry.leases)
        if extents:
            self.live.remove(entry)
            self.returning += extents

    @precondition(lambda self: self.returning)
    @rule()
    def give_back(self) -> None:
        self.ledger.returned(self.returning)
        self.returning = []

    @invariant()
    def nothing_is_held_twice_and_nothing_is_lost(self) -> None:
        held = [extent for entry in self.live for extent in entry.extents] + self.returning
        everything = [*held, *self.ledger._extents]
        assert not overlap(everything)
        assert sum(size for _, size in everything) == self.size

    @invariant()
    def the_figures_are_those_of_what_is_there(self) -> None:
        held = sum(size for entry in self.live for _, size in entry.extents)
        assert self.ledger.used_bytes == held + sum(size for _, size in self.returning)
        assert self.ledger.counts.evictions == self.evictions
        assert set(self.ledger) == {entry for entry in self.live if entry.valid}

    @invariant()
    def the_order_is_that_of_the_last_use(self) -> None:
        uses = [entry.last_use_time for entry in self.ledger]
        assert uses == sorted(uses)


Ledger.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_order_of_events = Ledger.TestCase


def test_extents_join_again() -> None:
    extents = Extents([(0, 10)])
    first, second, third = (extents.take(size) for size in (3, 3, 4))
    assert (first, second, third) == (0, 3, 6)
    assert extents.take(1) is None

    for begin, size in ((0, 3), (6, 4), (3, 3)):
        extents.put((begin, size))

    assert list(extents) == [(0, 10)]


def test_the_smallest_hole_is_taken_that_fits() -> None:
    extents = Extents([(0, 100), (200, 7), (300, 5)])

    assert extents.take(6) == 200
    assert list(extents) == [(0, 100), (206, 1), (300, 5)]
