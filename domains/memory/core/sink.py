"""Where a write's bytes go: straight into main memory, or over slots to a device."""

from __future__ import annotations

import asyncio
import contextlib

from domains.clients import Caller
from domains.errors import DomainError
from domains.finishing import finished
from domains.memory.core.address_space import AddressSpace, at
from domains.memory.core.ledger import Lease, Ledger
from domains.memory.core.ring import free_slot
from domains.memory.errors import AllocationBusy
from domains.memory.types import Place, SegmentRegion

SLOT_BYTES = 4 << 20


class Sink:
    """Takes the bytes of one upload in order, over as many streams as it needs.

    For a device they are gathered in one slot while the other one is on its way; between
    streams there are no slots.

    Args:
        ledger: Knows where the allocation lies.
        space: Moves bytes.
        caller: Who writes.
        allocation_id: The allocation.
        offset: Where in the allocation the upload's first byte goes.
        room: Most bytes that may come.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: AddressSpace,
        caller: Caller,
        allocation_id: str,
        offset: int,
        room: int,
    ) -> None:
        self._ledger = ledger
        self._space = space
        self._caller = caller
        self._allocation_id = allocation_id
        self._offset = offset
        self._slot_bytes = min(SLOT_BYTES, room)
        self._slots: list[SegmentRegion] = []
        self._gathered = 0
        self._gathered_from = 0  # position of the first of them
        self._flushing: asyncio.Task[None] | None = None

    async def write(self, position: int, data: bytes) -> None:
        """Take more bytes; `position` counts from the upload's first byte.

        Raises:
            AllocationNotFound: The lease is over.
            AllocationBusy: A copy uses the allocation.
            Unavailable: The device's worker is lost.
        """
        async with self._ledger.touching(self._caller, self._allocation_id) as lease:
            _check_idle(lease)
            if isinstance(lease.region, SegmentRegion) and not self._gathered:
                target = at(lease.region, self._offset + position)
                await asyncio.to_thread(self._space.host.write, target, data)
                return
        await self._gather(position, data)

    async def settle(self) -> None:
        """Have every byte where it belongs, and hold no slots; raises what kept one from it.

        Raises:
            DomainError: As `write`; bytes that were taken are lost.
        """
        try:
            if self._gathered:
                await self._send()
            await self._sent()
        finally:
            while self._slots:
                await free_slot(self._space.host, self._slots.pop())
        self._ledger.get(self._caller, self._allocation_id)

    async def discard(self) -> None:
        """The upload will not be finished; what has come of it stays in the allocation."""
        with contextlib.suppress(DomainError):
            await self.settle()

    async def _gather(self, position: int, data: bytes) -> None:
        host = self._space.host
        while len(self._slots) < 2:
            self._slots.append(SegmentRegion(await host.allocate(self._slot_bytes)))
        if self._gathered + len(data) > self._slot_bytes:
            await self._send()
        if not self._gathered:
            self._gathered_from = position
        target = at(self._slots[0], self._gathered)
        await asyncio.to_thread(host.write, target, data)
        self._gathered += len(data)

    async def _send(self) -> None:
        """Have the gathered bytes moved, and gather the next ones in the other slot."""
        await self._sent()
        slot, count = self._slots[0], self._gathered
        self._flushing = asyncio.create_task(self._move(slot, count, self._gathered_from))
        self._slots.reverse()
        self._gathered = 0

    async def _sent(self) -> None:
        """Wait for what is on its way. What failed stays, so that every later call fails."""
        if self._flushing is not None:
            await finished(self._flushing)
            self._flushing = None

    async def _move(self, slot: SegmentRegion, count: int, position: int) -> None:
        async with self._ledger.touching(self._caller, self._allocation_id) as lease:
            _check_idle(lease)
            target = (lease.allocation.place, at(lease.region, self._offset + position))
            await self._space.move_whole((Place(), slot), target, count)


def _check_idle(lease: Lease) -> None:
    if lease.copied:
        raise AllocationBusy(lease.allocation.allocation_id, "written")
