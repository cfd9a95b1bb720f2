"""Clients' bytes into allocations and out of them, hashed on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from domains.clients import Caller
from domains.memory.core.address_space import AddressSpace, at
from domains.memory.core.ledger import Ledger
from domains.memory.core.ring import pieces
from domains.memory.core.rules import length_within
from domains.memory.core.sink import Sink
from domains.memory.errors import ChecksumMismatch
from domains.memory.types import Place, ReadChunk, SegmentRegion, WriteHeader
from domains.upload_errors import UploadChecksumMismatch
from domains.upload_parts import UploadPart
from domains.uploads import Uploads

# A client that does not read holds two slots and four copies of a chunk, 3 MiB in all.
CHUNK_BYTES = 1 << 18
SLOT_BYTES = 1 << 20


class Access:
    """Reads and writes allocations.

    Args:
        ledger: Knows whose memory is where.
        space: Moves bytes.
        uploads: Takes the bytes of writes in.
    """

    def __init__(self, ledger: Ledger, space: AddressSpace, uploads: Uploads) -> None:
        self._ledger = ledger
        self._space = space
        self._uploads = uploads

    async def write(
        self, caller: Caller, header: WriteHeader, parts: AsyncIterator[UploadPart]
    ) -> int:
        """Put the bytes of an upload into an allocation.

        Bytes are written as they come. A write that breaks off leaves those that had come by
        then, and a new stream with its upload_id goes on with it; what lies before and after
        them is as it was, and the allocation stays.

        Returns:
            How many bytes were written.

        Raises:
            AllocationNotFound: There is none, or no longer.
            AllocationBusy: A copy uses it.
            OffsetOutOfRange: The bytes do not lie within it.
            ChecksumMismatch: The bytes are not those that were sent.
            DomainError: As `Uploads.receive`.
        """
        lease = self._ledger.get(caller, header.allocation_id)
        offset, length = header.offset, header.upload.size_bytes
        whole = lease.allocation.size_bytes
        length_within("header.target_offset_bytes", offset, length, whole)

        async def sink() -> Sink:
            place = header.allocation_id, offset, length
            return Sink(self._ledger, self._space, caller, *place)

        try:
            await self._uploads.receive(
                caller.name,
                header.upload,
                parts,
                purpose=("allocation", header.allocation_id, offset),
                target=sink,
            )
        except UploadChecksumMismatch as error:
            raise ChecksumMismatch(error.metadata) from error
        return length

    async def read(
        self, caller: Caller, allocation_id: str, offset: int, length: int
    ) -> AsyncGenerator[ReadChunk]:
        """Bytes of an allocation in chunks of a quarter MiB; the last one carries their hash.

        A `length` of 0 means to the end. Nothing to read is one empty chunk.

        Raises:
            AllocationNotFound: There is none, or no longer.
            OffsetOutOfRange: The bytes do not lie within it.
        """
        size = self._ledger.get(caller, allocation_id).allocation.size_bytes
        wanted = length_within("offset_bytes", offset, length, size)
        sha256 = hashlib.sha256()

        async def fill(slot: SegmentRegion, position: int, count: int) -> None:
            async with self._ledger.touching(caller, allocation_id) as lease:
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
