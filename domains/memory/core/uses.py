"""Who reads, writes, copies or moves lent memory just now: it stays where it is meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from domains.finishing import finished
from domains.memory.core.ledger import Lease, Ledger
from domains.memory.core.lending import Taken
from domains.memory.core.store import MemoryStore


class Uses:
    """Holds allocations in place for as long as somebody works on them.

    Args:
        ledger: Knows the leases.
        store: Gives back what an allocation has moved out of.
    """

    def __init__(self, ledger: Ledger, store: MemoryStore) -> None:
        self._ledger = ledger
        self._store = store
        self._quiet = asyncio.Event()

    @asynccontextmanager
    async def touching(self, client: str, allocation_id: str) -> AsyncIterator[Lease]:
        """A short read or write of an allocation: it stays where it is inside the block.

        Raises:
            AllocationNotFound: There is none, or no longer.
        """
        lease = self._ledger.get(client, allocation_id)
        lease.touches += 1
        try:
            yield lease
        finally:
            lease.touches -= 1
            self._quiet.set()

    @asynccontextmanager
    async def copying(
        self, client: str, source_id: str, target_id: str
    ) -> AsyncIterator[tuple[Lease, Lease]]:
        """A copy from one allocation into another one, or within one: both stay inside.

        Raises:
            AllocationNotFound: One of them is not there.
            AllocationBusy: Another copy uses the target or writes the source.
        """
        source = self._ledger.get(client, source_id)
        target = self._ledger.get(client, target_id)
        self._ledger.write(target)
        try:
            if source is not target:
                self._ledger.read(source)
            try:
                await self.still(source, target)
                yield source, target
            finally:
                source.readers -= source is not target
        finally:
            target.writer = False

    @asynccontextmanager
    async def moving(self, client: str, allocation_id: str) -> AsyncIterator[Lease]:
        """A transfer of an allocation: nobody else writes, copies or frees it inside.

        Raises:
            AllocationNotFound: There is none.
            AllocationBusy: A copy uses it.
        """
        lease = self._ledger.get(client, allocation_id)
        self._ledger.write(lease)
        try:
            await self.still(lease)
            yield lease
        finally:
            lease.writer = False

    async def relocate(self, lease: Lease, taken: Taken) -> None:
        """The allocation lies where `taken` does; what it lay in is given back."""
        before = (lease.allocation.place, lease.region)
        self._ledger.relocate(lease, taken.reservation, taken.place, taken.region)

        async def free() -> None:
            await self.still(lease)
            await self._store.free(*before)

        await finished(free())

    async def still(self, *leases: Lease) -> None:
        """Wait until nothing reads or writes them just now."""
        while any(lease.touches for lease in leases):
            self._quiet.clear()
            await self._quiet.wait()

    def get(self, client: str, allocation_id: str) -> Lease:
        """A client's lease; see `Ledger.get`."""
        return self._ledger.get(client, allocation_id)
