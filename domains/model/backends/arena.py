"""The range of addresses in which the front keeps models' files, and workers reading there.

It is made once and larger than what is kept in it: pages are taken when bytes are put there
and given back when they are not needed any more. On Linux it is a memfd, of which nothing
is left when its processes end, however they end; on Windows a named section. Elsewhere
workers cannot reach it.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
import uuid
from collections.abc import Callable

from domains.memory.backends.file_mapping import FileMapping

_ADDRESSES = 4  # times what may be used
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are
_FALLOC_KEEP_SIZE, _FALLOC_PUNCH_HOLE = 0x01, 0x02  # <linux/falloc.h>


class ArenaUnavailable(OSError):
    """This system has no memory that workers could read; the text says why."""


class Arena:
    """The front's end: written and given back. Closed, every view of it is invalid.

    Args:
        size: In bytes. On Linux only addresses; on Windows the system promises that much.

    Raises:
        ArenaUnavailable: The system has no such memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = ""
        """What `open_arena` takes."""
        self.memory: memoryview
        """All of it."""
        self.close: Callable[[], None]
        """Gives everything back."""
        self._handle = -1
        self._mapping: FileMapping | None = None
        if hasattr(os, "memfd_create"):
            self._make_memfd()
        elif sys.platform == "win32":
            self._make_section()
        else:
            raise ArenaUnavailable(
                "this system has no memory that workers could open by name and that is sure to"
                " go with the server"
            )

    def _make_memfd(self) -> None:
        try:
            self._handle = os.memfd_create("deviceops-models", os.MFD_CLOEXEC)
            os.ftruncate(self._handle, self.size)
            self._mapping = mapping = FileMapping(self._handle, self.size)
        except OSError as error:
            if self._handle >= 0:
                os.close(self._handle)
            raise ArenaUnavailable(error.errno, f"memory cannot be shared: {error}") from error
        self.name = f"/proc/{os.getpid()}/fd/{self._handle}"
        self.memory = _view(mapping.address, self.size)

        def close() -> None:
            self.memory.release()
            mapping.close()
            os.close(self._handle)

        self.close = close

    def _make_section(self) -> None:
        self.name = f"deviceops-models-{uuid.uuid4()}"
        try:
            section = mmap.mmap(-1, self.size, tagname=self.name)  # type: ignore[call-arg,unused-ignore]
        except OSError as error:
            raise ArenaUnavailable(error.errno, f"memory cannot be shared: {error}") from error
        self.memory = memoryview(section)

        def close() -> None:
            self.memory.release()
            section.close()

        self.close = close

    def taken_bytes(self) -> int:
        """What the system took for it; where it does not say, all of it."""
        if self._handle < 0:
            return self.size
        return os.fstat(self._handle).st_blocks * _BLOCK_BYTES

    def give_back(self, offset: int, length: int) -> None:
        """Return pages to the system; what they held is zeros. Windows keeps them."""
        if self._handle >= 0 and length:
            _punch_hole(self._handle, offset, length)


def arena_bytes(budget: int, total: int) -> int:
    """How large to make an arena for a budget, in a main memory of `total` bytes.

    Where addresses cost nothing there are many more than are ever used at once: so budgets
    may grow later, and holes between models never keep one out. A budget beyond main memory
    adds nothing: no more is ever kept, and of petabytes no system has the addresses.

    Args:
        budget: In bytes.
        total: Main memory; 0 where nobody knows it.
    """
    if not hasattr(os, "memfd_create"):
        return max(min(budget, total or budget), mmap.ALLOCATIONGRANULARITY)
    return _ADDRESSES * max(total or budget, mmap.PAGESIZE)


def open_arena(name: str, size: int) -> memoryview:
    """A worker's view of the front's arena, for reading only; it stays mapped.

    Args:
        name: Of the arena; a path on Linux, which may also be opened as a file.
        size: In bytes.

    Raises:
        OSError: There is no arena of that name; the front may have ended.
        ValueError: It is smaller.
    """
    if not hasattr(os, "memfd_create"):
        return _section(name, size)
    handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A front that ended may have left its number to another.
        return _mapped(handle, os.fstat(handle).st_ino, size)
    finally:
        os.close(handle)


@functools.lru_cache(maxsize=1)
def _section(name: str, size: int) -> memoryview:
    return memoryview(
        mmap.mmap(-1, size, tagname=name, access=mmap.ACCESS_READ)  # type: ignore[call-arg,unused-ignore]
    )


_views: dict[int, memoryview] = {}


def _mapped(handle: int, inode: int, size: int) -> memoryview:
    if inode not in _views:
        mapping = FileMapping(handle, size, writable=False)
        _views[inode] = _view(mapping.address, size).toreadonly()
    return _views[inode]


def _view(address: int, size: int) -> memoryview:
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def _punch_hole(handle: int, offset: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    mode = ctypes.c_int(_FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE)
    if libc.fallocate(handle, mode, ctypes.c_long(offset), ctypes.c_long(length)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
