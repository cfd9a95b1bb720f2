"""The bytes of an opened file, in chunks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import BinaryIO

from domains.artifact.errors import ArtifactDamaged, StorageUnavailable
from domains.artifact.ports import ArtifactFiles
from domains.shortages import shortage_of

CHUNK_BYTES = 256 * 1024
"""Four copies of one wait for a client that does not read, beside what was read at once."""
_READ_BYTES = 4 * CHUNK_BYTES
"""Read at once: trips to a thread for each chunk are a tenth of a download's time."""


def open_at(
    files: ArtifactFiles, artifact_id: str, offset: int, length: int
) -> tuple[BinaryIO, bytes]:
    """An artifact's file, and its bytes from `offset` on, at most `length`: one trip to a
    thread for most pictures.

    Raises:
        DomainError: As `ArtifactFiles.open`.
        StorageUnavailable: It cannot be read.
    """
    file = files.open(artifact_id)
    try:
        return file, _read(file, offset, length)
    except BaseException:
        file.close()
        raise


async def chunks_of(
    file: BinaryIO, data: bytes, offset: int, length: int, artifact_id: str
) -> AsyncGenerator[bytes]:
    """`length` bytes from `offset` on; `data` are the first of them, which were read. The
    file is closed at the end.

    Raises:
        ArtifactDamaged: The file ends before.
        StorageUnavailable: It cannot be read.
    """
    end = offset + length
    with contextlib.closing(file):
        while offset < end:
            if not data:
                raise ArtifactDamaged(artifact_id)
            for start in range(0, len(data), CHUNK_BYTES):
                yield data[start : start + CHUNK_BYTES]
            offset += len(data)
            if offset < end:
                data = await asyncio.to_thread(_read, file, offset, end - offset)


def _read(file: BinaryIO, offset: int, most: int) -> bytes:
    try:
        file.seek(offset)
        return file.read(min(most, _READ_BYTES))
    except OSError as error:  # the disk fails
        raise shortage_of(error) or StorageUnavailable() from error
