"""Bytes compared, by the C library: exact, and several times faster than hashing both sides."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from domains.memory.backends.moving import (
    CHUNK_BYTES,
    SPLIT_BYTES,
    HostSpan,
    Watch,
    chunks,
)


def _load_memcmp() -> Callable[[int, int, int], int]:
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    function = library.memcmp
    function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_int

    def memcmp(one: int, other: int, size: int) -> int:
        return int(function(one, other, size))

    return memcmp


_memcmp = _load_memcmp()


def equal(one: int, other: int, size: int) -> bool:
    """Whether `size` bytes at two addresses of this process are the same.

    Other threads run meanwhile.
    """
    return _memcmp(one, other, size) == 0


def compare_in_halves(same: Callable[[int, int], bool], length: int, watch: Watch) -> int:
    """Have `same(offset, size)` compare each chunk in two threads at once.

    Args:
        same: Compares bytes; from any thread.
        length: How many there are.
        watch: Told, and asked.

    Returns:
        How many bytes are equal; those before the first chunk with a difference.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="compare") as other:
        for offset, size in chunks(length, CHUNK_BYTES):
            half = size // 2 if size >= SPLIT_BYTES else 0
            first = other.submit(same, offset, half) if half else None
            second = same(offset + half, size - half)
            if not second or (first is not None and not first.result()):
                return offset
            watch.passed(offset + size)
    return length


def compare_spans(first: HostSpan, second: HostSpan, length: int, watch: Watch) -> int:
    """How many bytes of two spans are equal; see `compare_in_halves`."""

    def same(offset: int, size: int) -> bool:
        first.prepare(offset, size)
        second.prepare(offset, size)
        return equal(first.address + offset, second.address + offset, size)

    return compare_in_halves(same, length, watch)
