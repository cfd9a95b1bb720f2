"""Bytes that come piece by piece into shared slots, the next while one is being used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from domains.finishing import ended, finished
from domains.memory.ports import HostBuffers
from domains.memory.types import SegmentRegion

SLOT_BYTES = 32 << 20
_SLOTS = 2

Fill = Callable[[SegmentRegion, int, int], Awaitable[None]]
"""Puts bytes into a slot: the slot, the offset of the first byte, how many."""


@dataclass(frozen=True)
class Piece:
    """Bytes `offset` to `offset + size` of the whole, at the start of `slot`."""

    slot: SegmentRegion
    offset: int
    size: int


async def pieces(
    host: HostBuffers, fill: Fill, length: int, *, slot_bytes: int = SLOT_BYTES
) -> AsyncGenerator[Piece]:
    """`length` bytes in order; a piece is valid until the next one is taken.

    While the caller uses one slot the other is being filled. Closing the generator ends a
    fill that is under way and frees the slots.

    Raises:
        ResourceExhausted: HOST_OUT_OF_MEMORY: there is no room for the slots.
        Exception: Whatever `fill` raised.
    """
    size = min(slot_bytes, length)
    if size == 0:
        return
    free: asyncio.Queue[SegmentRegion] = asyncio.Queue()
    full: asyncio.Queue[Piece | Exception] = asyncio.Queue()

    async def produce() -> None:
        try:
            for offset in range(0, length, size):
                slot = await free.get()
                count = min(size, length - offset)
                await fill(slot, offset, count)
                full.put_nowait(Piece(slot, offset, count))
        except Exception as error:
            full.put_nowait(error)

    async with AsyncExitStack() as stack:
        for _ in range(_SLOTS if length > size else 1):
            slot = SegmentRegion(await host.allocate(size))
            stack.push_async_callback(free_slot, host, slot)
            free.put_nowait(slot)
        stack.push_async_callback(ended, asyncio.create_task(produce()))
        done = 0
        while done < length:
            piece = await full.get()
            if isinstance(piece, Exception):
                raise piece
            yield piece
            done += piece.size
            free.put_nowait(piece.slot)


async def free_slot(host: HostBuffers, slot: SegmentRegion) -> None:
    """Free a slot, also when cancelled."""
    await finished(host.free(slot.segment))
