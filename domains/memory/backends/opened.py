"""Shared host memory of another process, opened by name and mapped without copying."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys

from domains.errors import FailedPrecondition
from domains.memory.types import Segment

_MADV_POPULATE_WRITE = 23  # Linux 5.14


class OpenedSegment:
    """A segment that the front made, mapped for reading and writing.

    Nothing of it stays when it is closed, so the memory goes when the front frees it. No
    resource tracker learns of it: in Python 3.11 one would delete, at this process's end,
    what belongs to the front.

    Args:
        segment: What to open.

    Raises:
        FailedPrecondition: There is none of that name and size.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        try:
            self.memory = _map(segment)
        except (OSError, ValueError) as error:
            raise FailedPrecondition(
                f"A segment of {segment.size_bytes} bytes cannot be opened; it may be freed.",
                metadata={"size_bytes": str(segment.size_bytes)},
            ) from error
        self._anchor: ctypes.c_char | None = ctypes.c_char.from_buffer(self.memory)
        self.address = ctypes.addressof(self._anchor)
        """Where it begins in this process."""

    def populate(self, offset: int, length: int) -> None:
        """Enter pages into this process's tables at once instead of one by one."""
        if sys.platform == "linux":
            begin = offset - offset % mmap.PAGESIZE
            # Kernels before 5.14 do not know how: there copies fault, nothing else.
            with contextlib.suppress(OSError):
                self.memory.madvise(_MADV_POPULATE_WRITE, begin, offset + length - begin)

    def close(self) -> None:
        """Unmap it; the address is invalid then."""
        self._anchor = None
        self.memory.close()


def _map(segment: Segment) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, segment.size_bytes, tagname=segment.name)
    if segment.name.startswith("/proc/"):
        handle = os.open(segment.name, os.O_RDWR | os.O_CLOEXEC)
    else:
        import _posixshmem  # type: ignore[import-not-found]

        handle = _posixshmem.shm_open("/" + segment.name, os.O_RDWR, mode=0o600)
    try:
        return mmap.mmap(handle, segment.size_bytes)
    finally:
        os.close(handle)
