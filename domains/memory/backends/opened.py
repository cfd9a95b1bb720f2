"""Shared host memory of another process, opened by name: mapped, or as a file."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable

from domains.errors import FailedPrecondition
from domains.memory.backends.chunks import chunks
from domains.memory.backends.file_mapping import FileMapping
from domains.memory.backends.spans import equal
from domains.memory.types import Segment, SegmentRegion

_FILES = "/proc/"
_PIECE_BYTES = 256 << 10  # of a file being compared: stays in a core's own cache


class OpenedSegment:
    """A segment that the front made, mapped for reading and writing.

    Nothing of it stays when it is closed, so the front alone frees the memory. No
    resource tracker learns of it: in Python 3.11 one would delete, at this process's end,
    what belongs to the front.

    Args:
        segment: What to open.

    Raises:
        FailedPrecondition: There is none of that name and size.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._file: FileMapping | None = None
        try:
            if SegmentFile.offered(segment):
                self._open_file()
            else:
                self._open_block()
        except (OSError, ValueError) as error:
            raise _gone(segment) from error

    def populate(self, offset: int, length: int) -> None:
        """Enter pages into this process's tables at once instead of one by one."""
        if self._file is not None:
            self._file.populate(offset, length)

    def _open_file(self) -> None:
        handle = os.open(self.segment.name, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._file = FileMapping(handle, self.segment.size_bytes)
        finally:
            os.close(handle)
        self.address = self._file.address
        """Where it begins in this process."""
        self.close: Callable[[], None] = self._file.close
        """Unmaps it; the address is invalid then."""

    def _open_block(self) -> None:
        memory = _map_block(self.segment)
        anchor = ctypes.c_char.from_buffer(memory)
        self.address = ctypes.addressof(anchor)

        def close() -> None:
            nonlocal anchor
            del anchor
            memory.close()

        self.close = close


class SegmentFile:
    """A segment's region read and written as the file that it is on Linux.

    Where its pages are small and it is copied once, this is faster than mapping it: no
    page of it enters this process's tables. Offsets are from the region's first byte.

    Args:
        region: What to open; `offered` must be true of its segment.

    Raises:
        FailedPrecondition: There is none of that name and size.
    """

    def __init__(self, region: SegmentRegion) -> None:
        self._region = region
        segment = region.segment
        try:
            self._handle = os.open(segment.name, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _gone(segment) from error
        if os.fstat(self._handle).st_size < segment.size_bytes:
            self.close()
            raise _gone(segment)

    @staticmethod
    def offered(segment: Segment) -> bool:
        """Whether the segment is a file."""
        return segment.name.startswith(_FILES)

    def read(self, address: int, offset: int, size: int) -> None:
        """Copy bytes of the region to an address of this process."""
        self._all(os.preadv, address, offset, size)

    def write(self, address: int, offset: int, size: int) -> None:
        """Copy bytes at an address of this process to the region."""
        self._all(os.pwritev, address, offset, size)

    def equals(self, address: int, offset: int, size: int) -> bool:
        """Whether bytes of the region are those at an address of this process."""
        piece = ctypes.create_string_buffer(min(size, _PIECE_BYTES))
        read = ctypes.addressof(piece)
        for begin, count in chunks(size, _PIECE_BYTES):
            self.read(read, offset + begin, count)
            if not equal(read, address + begin, count):
                return False
        return True

    def close(self) -> None:
        """Close it."""
        os.close(self._handle)

    def _all(
        self,
        act: Callable[[int, list[memoryview], int], int],
        address: int,
        offset: int,
        size: int,
    ) -> None:
        # One call moves at most 2 GiB, and a signal may cut it short.
        done, begin = 0, self._region.offset + offset
        while done < size:
            there = (ctypes.c_char * (size - done)).from_address(address + done)
            moved = act(self._handle, [memoryview(there)], begin + done)
            if moved == 0:
                raise _gone(self._region.segment)
            done += moved


def _gone(segment: Segment) -> FailedPrecondition:
    return FailedPrecondition(
        f"A segment of {segment.size_bytes} bytes cannot be opened; it may be freed.",
        metadata={"size_bytes": str(segment.size_bytes)},
    )


def _map_block(segment: Segment) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, segment.size_bytes, tagname=segment.name)
    import _posixshmem  # type: ignore[import-not-found]

    handle = _posixshmem.shm_open("/" + segment.name, os.O_RDWR, mode=0o600)
    try:
        return mmap.mmap(handle, segment.size_bytes)
    finally:
        os.close(handle)
