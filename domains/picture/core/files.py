"""Files that work needs beside pictures: read where a client names them, kept for workers."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from domains.clients import caller
from domains.errors import NotFound
from domains.picture.ports import Artifacts, PictureFiles


class KeptFile:
    """A file of this server; it goes when nobody holds this any more.

    Args:
        path: Where it lies.
        remove: Deletes it.
    """

    def __init__(self, path: Path, remove: Callable[[Path], None]) -> None:
        self.path = path
        weakref.finalize(self, remove, path)


class Files:
    """Reads artifacts whole, and keeps bytes where workers read them.

    Args:
        artifacts: Where uploaded files lie.
        files: Where kept ones lie.
    """

    def __init__(self, artifacts: Artifacts, files: PictureFiles) -> None:
        self._artifacts = artifacts
        self._files = files

    async def read(self, artifact_id: str, field: str, most: int) -> bytes | None:
        """The bytes of an artifact that a call's client names in `field`; None where it has
        more than `most`.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND; the metadata names the field.
            DomainError: It cannot be read now.
        """
        client = caller()
        try:
            if self._artifacts.get(client, artifact_id).size_bytes > most:
                return None
            async with aclosing(self._artifacts.read(client, artifact_id)) as chunks:
                return b"".join([data async for data in chunks])
        except NotFound as error:
            error.metadata.setdefault("field", field)
            raise

    async def keep(self, data: bytes) -> KeptFile:
        """Those bytes in a file.

        Raises:
            DomainError: The disk fails or is full.
        """
        path = await asyncio.to_thread(self._files.new_target)
        kept = KeptFile(path, self._files.remove)
        await asyncio.to_thread(self._files.append, path, data)
        return kept
