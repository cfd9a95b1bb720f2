"""Clients' bytes into allocations and out of them, hashed on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS
from domains.memory.core.address_space import AddressSpace, at
from domains.memory.core.ledger import Ledger
from domains.memory.core.ring import pieces
from domains.memory.core.rules import length_within
from domains.memory.core.sink import Sink
from domains.memory.errors import (
    ChecksumMismatch,
    InvalidMemoryRequest,
    OffsetOutOfRange,
    WriteIncomplete,
)
from domains.memory.types import (
    Place,
    ReadChunk,
    SegmentRegion,
    WriteEnd,
    WriteHeader,
    WritePart,
)

# A client that does not read holds two slots and four copies of a chunk, 3 MiB in all.
CHUNK_BYTES = 1 << 18
SLOT_BYTES = 1 << 20


class Access:
    """Reads and writes allocations.

    Args:
        ledger: Knows whose memory is where.
        space: Moves bytes.
    """

    def __init__(self, ledger: Ledger, space: AddressSpace) -> None:
        self._ledger = ledger
        self._space = space

    async def write(self, client: str, parts: AsyncIterator[WritePart | None]) -> int:
        """Put bytes into an allocation: a header, the bytes in order, their hash.

        Bytes are written as they come. A write that fails or is broken off leaves those
        that had come by then, perhaps without the last few megabytes; what lies before
        and after them is as it was, and the allocation stays.

        Returns:
            How many bytes were written.

        Raises:
            AllocationNotFound: There is none, or no longer.
            AllocationBusy: A copy uses it.
            OffsetOutOfRange: The bytes do not lie within it.
            ChecksumMismatch: The bytes are not those that were sent.
            WriteIncomplete: The end did not come.
            InvalidMemoryRequest: A part is missing, comes twice or is too large.
        """
        header = await anext(parts, None)
        if not isinstance(header, WriteHeader):
            raise _broken("header", Reason.REQUIRED_FIELD_MISSING, "Must come first.")
        lease = self._ledger.get(client, header.allocation_id)
        size = lease.allocation.size_bytes
        length_within("header.offset_bytes", header.offset, 0, size)
        sha256, position = hashlib.sha256(), header.offset
        sink = Sink(self._ledger, self._space, client, header, size - header.offset)
        async with sink:
            async for part in parts:
                match part:
                    case bytes():
                        _check_data(part)
                        if position + len(part) > size:
                            raise OffsetOutOfRange("data", position, len(part), size)
                        await sink.put(part, sha256.update)
                        position += len(part)
                    case WriteEnd(expected):
                        await sink.flush()
                        written = position - header.offset
                        if expected != sha256.hexdigest():
                            raise ChecksumMismatch(expected, sha256.hexdigest(), written)
                        return written
                    case WriteHeader():
                        raise _broken("header", Reason.FIELDS_CONFLICT, "Must come once.")
                    case None:
                        raise _broken("part", Reason.REQUIRED_FIELD_MISSING, "Must be set.")
        raise WriteIncomplete(position - header.offset)

    async def read(
        self, client: str, allocation_id: str, offset: int, length: int
    ) -> AsyncGenerator[ReadChunk]:
        """Bytes of an allocation in chunks of a quarter MiB; the last one carries their hash.

        A `length` of 0 means to the end. Nothing to read is one empty chunk.

        Raises:
            AllocationNotFound: There is none, or no longer.
            OffsetOutOfRange: The bytes do not lie within it.
        """
        size = self._ledger.get(client, allocation_id).allocation.size_bytes
        wanted = length_within("offset_bytes", offset, length, size)
        sha256 = hashlib.sha256()

        async def fill(slot: SegmentRegion, position: int, count: int) -> None:
            async with self._ledger.touching(client, allocation_id) as lease:
                begin = at(lease.region, offset + position)
                source = (lease.allocation.place, begin)
                await self._space.move_whole(source, (Place(), slot), count)

        if wanted == 0:
            yield ReadChunk(offset, b"", sha256.hexdigest())
        host = self._space.host
        async with aclosing(pieces(host, fill, wanted, slot_bytes=SLOT_BYTES)) as arriving:
            async for piece in arriving:
                for start in range(0, piece.size, CHUNK_BYTES):
                    count = min(CHUNK_BYTES, piece.size - start)
                    data = host.read(at(piece.slot, start), count)
                    await asyncio.to_thread(sha256.update, data)
                    done = piece.offset + start
                    last = done + count == wanted
                    yield ReadChunk(offset + done, data, sha256.hexdigest() if last else "")


def _check_data(data: bytes) -> None:
    broken = checks.size("data", len(data), LIMITS["WriteAllocationRequest.data"])
    if broken is not None:
        raise InvalidMemoryRequest.of(broken)


def _broken(field: str, reason: Reason, rule: str) -> InvalidMemoryRequest:
    return InvalidMemoryRequest.of(FieldViolation(field, reason, rule))
