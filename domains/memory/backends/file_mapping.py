"""A file of memory mapped by this process, aligned so that huge pages can be used (Linux).

Python's own mmap leaves the address to the kernel, which aligns files of memory to small
pages only. Huge pages matter for memory that several processes copy: entering 256 MiB into
a process's tables takes 0.2 ms in huge pages and 55 ms, twice the copy itself, in small ones.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os

HUGE_PAGE_BYTES = 2 << 20
"""Of x86 and of most ARM systems. Where they are larger, pages stay small."""

# <linux/mman.h>; numbers are those of the two architectures above.
_MAP_PRIVATE, _MAP_SHARED, _MAP_FIXED = 0x02, 0x01, 0x10
_MAP_ANONYMOUS, _MAP_NORESERVE = 0x20, 0x4000
_MADV_POPULATE_WRITE = 23  # Linux 5.14
_MADV_COLLAPSE = 25  # Linux 6.1
_FAILED = ctypes.c_void_p(-1).value


class FileMapping:
    """All of a file of memory; `address` is where it begins.

    It keeps no handle.

    Args:
        handle: The file's.
        size: How many bytes of it.
        writable: Whether to map it for writing too; the handle has to allow that.

    Raises:
        OSError: The system refuses.
        ValueError: The file is smaller.
    """

    def __init__(self, handle: int, size: int, *, writable: bool = True) -> None:
        if os.fstat(handle).st_size < size:
            raise ValueError("the file is smaller than what is to be mapped")
        self._libc = _libc()
        self._bytes = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        reserved = self._bytes + HUGE_PAGE_BYTES
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
        begin = self._map(None, reserved, 0, flags, -1)
        self.address = -(-begin // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        try:
            self._map(self.address, self._bytes, access, _MAP_SHARED | _MAP_FIXED, handle)
        except OSError:
            self._libc.munmap(begin, reserved)
            raise
        self._unmap(begin, self.address - begin)
        end = self.address + self._bytes
        self._unmap(end, begin + reserved - end)

    def make_huge(self) -> bool:
        """Gather the pages in huge ones; whether every one that fits now is one.

        Changes no byte and takes no memory for long. Kernels before 6.1 do not know how.
        """
        huge = self._bytes // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
        return huge > 0 and self._advise(0, huge, _MADV_COLLAPSE)

    def populate(self, offset: int, length: int) -> bool:
        """Enter pages into this process's tables at once instead of one by one.

        Kernels before 5.14 do not know how: there copies fault, nothing else.
        """
        begin = offset - offset % mmap.PAGESIZE
        return self._advise(begin, offset + length - begin, _MADV_POPULATE_WRITE)

    def close(self) -> None:
        """Unmap it; the address is invalid then. Once more is harmless."""
        self._unmap(self.address, self._bytes)
        self._bytes = 0

    def _advise(self, offset: int, length: int, advice: int) -> bool:
        code: int = self._libc.madvise(self.address + offset, length, advice)
        return code == 0

    def _map(
        self, address: int | None, length: int, access: int, flags: int, handle: int
    ) -> int:
        found = self._libc.mmap(address, length, access, flags, handle, 0)
        if found == _FAILED:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return int(found)

    def _unmap(self, address: int, length: int) -> None:
        if length:
            self._libc.munmap(address, length)


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.argtypes = (pointer, size, number, number, number, ctypes.c_long)
    libc.mmap.restype = pointer
    libc.munmap.argtypes = (pointer, size)
    libc.madvise.argtypes = (pointer, size, number)
    return libc
