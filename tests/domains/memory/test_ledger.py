"""The books always equal what is held, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from domains.clients import Caller, Role
from domains.errors import DomainError, Reason
from domains.memory.errors import AllocationNotFound, QuotaExceeded
from domains.memory.types import Allocation, AllocationRequest, Place
from tests.domains.memory.conftest import ANN, BOB, CARD, CPU, HOST, build

QUOTA = 200_000
EVE = Caller("eve", Role.RUN)
_CALLERS = {caller.name: caller for caller in (ANN, BOB)}


class LedgerMachine(RuleBasedStateMachine):
    """Two clients take, renew and free memory while leases expire and workers die."""

    allocations = Bundle("allocations")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.system = self._run(self._build())
        self.ends: dict[str, float] = {}  # of the leases that live

    async def _build(self) -> Any:
        system = build(quota_bytes=QUOTA)
        await system.inventory.discover()
        return system

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.system.segments.close()
        self.runner.close()

    @rule(
        target=allocations,
        caller=st.sampled_from([ANN, BOB]),
        place=st.sampled_from([HOST, Place(pinned=True), CPU, CARD]),
        size=st.integers(1, 90_000),
        seconds=st.integers(1, 100),
    )
    def create(self, caller: Caller, place: Place, size: int, seconds: int) -> Any:
        wanted = AllocationRequest(place, size, lease_seconds=seconds)
        pool = self.system.service.monitor.pool(place)
        held = self.system.ledger.held(caller.name, pool)
        try:
            made = self._run(self.system.service.leases.create(caller, wanted))
        except QuotaExceeded:
            assert held + size > QUOTA
            return None
        assert held + size <= QUOTA
        self.ends[made.allocation_id] = self.system.time.seconds + seconds
        return made

    @rule(one=allocations, seconds=st.integers(1, 100))
    def renew(self, one: Allocation | None, seconds: int) -> None:
        if one is None:
            return
        alive = one.allocation_id in self.ends
        try:
            self.system.service.leases.renew(_CALLERS[one.owner], [one.allocation_id], seconds)
        except AllocationNotFound:
            assert not alive
        else:
            assert alive
            self.ends[one.allocation_id] = self.system.time.seconds + seconds

    @rule(one=consumes(allocations))
    def free(self, one: Allocation | None) -> None:
        if one is None:
            return
        alive = self.ends.pop(one.allocation_id, None) is not None
        try:
            freed = self._run(
                self.system.service.leases.delete(_CALLERS[one.owner], one.allocation_id)
            )
        except AllocationNotFound:
            assert not alive
        else:
            assert alive
            assert freed == one.size_bytes

    @rule(one=allocations)
    def strangers_see_nothing(self, one: Allocation | None) -> None:
        if one is None:
            return
        with pytest.raises(AllocationNotFound):
            self._run(self.system.service.leases.delete(EVE, one.allocation_id))

    @rule(seconds=st.integers(1, 60))
    def time_passes(self, seconds: int) -> None:
        self.system.time.move(seconds)
        self._run(self.system.service.leases.sweep())
        now = self.system.time.seconds
        self.ends = {one: end for one, end in self.ends.items() if end > now}

    @rule(place=st.sampled_from([CPU, CARD]))
    def lose_worker(self, place: Place) -> None:
        there = [
            lease.allocation.allocation_id
            for lease in self.system.ledger.all()
            if lease.allocation.place == place
        ]
        self.system.buffers.lose(place.device_id)
        self.system.buffers.lost.clear()
        for one in there:
            del self.ends[one]

    @invariant()
    def books_equal_what_is_held(self) -> None:
        leases = self.system.ledger.all()
        assert {lease.allocation.allocation_id for lease in leases} == set(self.ends)
        assert sum(lease.allocation.size_bytes for lease in leases) == self.system.backed()
        for place in (CPU, CARD):
            assert self.system.ledger.sum(place) == self.system.buffers.held(place.device_id)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_an_end_is_explained_to_its_owner_alone() -> None:
    async def story() -> None:
        system = build()
        await system.inventory.discover()
        one = await system.lend(HOST)
        system.time.move(61)
        await system.service.leases.sweep()

        with pytest.raises(AllocationNotFound, match="lease expired") as mine:
            system.ledger.get(ANN, one.allocation_id)
        with pytest.raises(AllocationNotFound) as theirs:
            system.ledger.get(BOB, one.allocation_id)

        assert mine.value.metadata["cause"] == "expired"
        assert "cause" not in theirs.value.metadata
        assert mine.value.reason is Reason.ALLOCATION_NOT_FOUND
        assert isinstance(mine.value, DomainError)

    asyncio.run(story())
