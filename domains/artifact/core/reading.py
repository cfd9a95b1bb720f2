"""The bytes of an opened file, in chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import BinaryIO

from domains.artifact.errors import ArtifactDamaged, StorageUnavailable
from domains.shortages import shortage_of

CHUNK_BYTES = 256 * 1024
"""Four copies of one wait for a client that does not read, beside what was read at once."""
_READ_BYTES = 4 * CHUNK_BYTES
"""Read at once: trips to a thread for each chunk are a tenth of a download's time."""


async def chunks_of(
    file: BinaryIO, offset: int, length: int, artifact_id: str
) -> AsyncGenerator[bytes]:
    """`length` bytes from `offset` on.

    Raises:
        ArtifactDamaged: The file ends before.
        StorageUnavailable: It cannot be read.
    """
    while length:
        data = await asyncio.to_thread(_read, file, offset, min(_READ_BYTES, length))
        if not data:
            raise ArtifactDamaged(artifact_id)
        offset += len(data)
        length -= len(data)
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    try:
        file.seek(offset)
        return file.read(size)
    except OSError as error:  # the disk fails
        raise shortage_of(error) or StorageUnavailable() from error
