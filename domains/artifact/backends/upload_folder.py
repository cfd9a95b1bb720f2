"""Unfinished uploads in a folder of their own, out of which they go when they are whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
import uuid
from pathlib import Path

from domains.artifact.backends.disk_errors import typed
from domains.private_folders import prepare
from domains.regular_files import open_regular
from domains.whole_files import sync

_NAME = re.compile(r"[0-9a-f]{32}\.upload\Z")


class UploadedFile:
    """Implements `UploadFile`.

    Args:
        path: Where it lies; made by the first write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    async def write(self, position: int, data: bytes) -> None:
        await asyncio.to_thread(self._write, position, data)

    async def settle(self) -> None:
        await asyncio.to_thread(self._settle)

    async def discard(self) -> None:
        await asyncio.to_thread(self._discard)

    def _write(self, position: int, data: bytes) -> None:
        with typed():
            if self._handle is None:
                self._handle = open_regular(self.path, os.O_WRONLY | os.O_CREAT)
            os.lseek(self._handle, position, os.SEEK_SET)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._handle, rest) :]

    def _settle(self) -> None:
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        with typed():
            try:
                sync(handle)
            finally:
                os.close(handle)

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            if self._handle is not None:
                os.close(self._handle)
        with contextlib.suppress(OSError):
            self.path.unlink()


class UploadFolder:
    """Implements `UploadFiles`.

    Args:
        folder: Where they lie; made whenever it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # one that stays keeps no others
                    if _NAME.match(entry.name) and stat.S_ISREG(
                        entry.stat(follow_symlinks=False).st_mode
                    ):
                        os.unlink(entry.path)

    def create(self) -> UploadedFile:
        with typed():
            prepare(self._folder)
            path = self._folder / f"{uuid.uuid4().hex}.upload"
            os.close(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            return UploadedFile(path)
