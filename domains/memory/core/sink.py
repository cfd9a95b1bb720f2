"""The end of a write: bytes put straight into main memory, or over slots to a device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

from domains.finishing import ended, finished
from domains.memory.core.address_space import AddressSpace, at
from domains.memory.core.ledger import Lease, Ledger
from domains.memory.core.ring import free_slot
from domains.memory.errors import AllocationBusy
from domains.memory.types import Place, SegmentRegion, WriteHeader

SLOT_BYTES = 4 << 20


class Sink:
    """Takes the bytes of one write in order.

    For a device they are gathered in one slot while the other one is on its way.

    Args:
        ledger: Knows where the allocation lies.
        space: Moves bytes.
        client: Whose allocation it is.
        header: Which one, and the offset of the first byte.
        room: Most bytes that may come.
    """

    def __init__(
        self, ledger: Ledger, space: AddressSpace, client: str, header: WriteHeader, room: int
    ) -> None:
        self._ledger = ledger
        self._space = space
        self._client = client
        self._allocation_id = header.allocation_id
        self._position = header.offset  # of the next byte
        self._slot_bytes = min(SLOT_BYTES, room)
        self._slots: list[SegmentRegion] = []
        self._gathered = 0
        self._flushing: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._flushing is not None:
            self._stack.push_async_callback(ended, self._flushing)
        await finished(self._stack.aclose())

    async def put(self, data: bytes, see: Callable[[bytes], object]) -> None:
        """Take more bytes; `see` is called with them in a thread, to hash them.

        Raises:
            AllocationNotFound: The lease is over.
            AllocationBusy: A copy uses the allocation.
            Unavailable: The device's worker is lost.
        """
        async with self._ledger.touching(self._client, self._allocation_id) as lease:
            _check_idle(lease)
            if isinstance(lease.region, SegmentRegion) and not self._gathered:
                await self._write(at(lease.region, self._position), data, see)
                self._position += len(data)
                return
        await self._gather(data, see)

    async def flush(self) -> None:
        """Return when everything is where it belongs; raises what a move raised."""
        if self._gathered:
            await self._send()
        await self._sent()

    async def _gather(self, data: bytes, see: Callable[[bytes], object]) -> None:
        host = self._space.host
        while len(self._slots) < 2:
            self._slots.append(SegmentRegion(await host.allocate(self._slot_bytes)))
            self._stack.push_async_callback(free_slot, host, self._slots[-1])
        if self._gathered + len(data) > self._slot_bytes:
            await self._send()
        await self._write(at(self._slots[0], self._gathered), data, see)
        self._gathered += len(data)

    async def _send(self) -> None:
        """Have the gathered bytes moved, and gather the next ones in the other slot."""
        await self._sent()
        slot, count, position = self._slots[0], self._gathered, self._position
        self._flushing = asyncio.create_task(self._move(slot, count, position))
        self._slots.reverse()
        self._position += count
        self._gathered = 0

    async def _sent(self) -> None:
        if self._flushing is not None:
            await asyncio.shield(self._flushing)
            self._flushing = None

    async def _move(self, slot: SegmentRegion, count: int, position: int) -> None:
        async with self._ledger.touching(self._client, self._allocation_id) as lease:
            _check_idle(lease)
            target = (lease.allocation.place, at(lease.region, position))
            await self._space.move_whole((Place(), slot), target, count)

    async def _write(
        self, target: SegmentRegion, data: bytes, see: Callable[[bytes], object]
    ) -> None:
        def write() -> None:
            self._space.host.write(target, data)
            see(data)

        await finished(asyncio.to_thread(write))


def _check_idle(lease: Lease) -> None:
    if lease.copied:
        raise AllocationBusy(lease.allocation.allocation_id, "written")
