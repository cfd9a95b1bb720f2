"""Shared host memory of this process: made, mapped, really there, and opened by name.

On Linux a segment is a memfd: it counts against the container's limit, needs no room in
/dev/shm, and nothing is left of it when its processes end, however they end. Elsewhere it
is a `multiprocessing.shared_memory` block.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory

from domains.memory.backends.file_mapping import FileMapping
from domains.memory.types import Segment

_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are
_memfd = hasattr(os, "memfd_create")
_serials = itertools.count(1)


class Mapping:
    """A segment made by this process, mapped; `address` is where it begins.

    Pages are taken when it is made, so that a lack of memory is an OSError then and not
    the end of a process later.

    Args:
        size: In bytes.

    Raises:
        OSError: There is no room, or no file handle left.
    """

    def __init__(self, size: int) -> None:
        self.close: Callable[[], None]
        """Gives the memory back; the address is invalid then."""
        self.taken_bytes: Callable[[], int]
        """What the system took for it; `source` says how that is known."""
        if _memfd:
            self._make_memfd(size)
        else:
            self._make_block(size)

    def _make_memfd(self, size: int) -> None:
        handle = os.memfd_create("deviceops", os.MFD_CLOEXEC)
        try:
            # Takes every page or fails; zeroed by the system.
            os.posix_fallocate(handle, 0, size)
            mapped = FileMapping(handle, size)
        except BaseException:
            os.close(handle)
            raise
        self.address = mapped.address
        huge = mapped.make_huge()
        mapped.populate(0, size)  # so that copies do not fault
        self.segment = Segment(f"/proc/{os.getpid()}/fd/{handle}", size, huge, next(_serials))
        self.source = "os.fstat().st_blocks of every segment"
        self.taken_bytes = lambda: os.fstat(handle).st_blocks * _BLOCK_BYTES

        def close() -> None:
            mapped.close()
            os.close(handle)

        self.close = close

    def _make_block(self, size: int) -> None:
        block = SharedMemory(create=True, size=size)
        buffer = block.buf
        assert buffer is not None
        anchor = ctypes.c_char.from_buffer(buffer)
        self.address = ctypes.addressof(anchor)
        self.segment = Segment(block.name, size, serial=next(_serials))
        self.source = "sizes of the segments"
        self.taken_bytes = lambda: size
        ctypes.memset(self.address, 0, size)  # touches every page

        def close() -> None:
            nonlocal anchor, buffer
            del anchor, buffer
            block.close()
            block.unlink()

        self.close = close
