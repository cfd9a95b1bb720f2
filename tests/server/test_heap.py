"""What was freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys

import psutil
import pytest

from server.heap import LOOPS

MIB = 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own function")
async def test_freed_memory_goes_back_although_something_lies_above_it() -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("another C library")
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    blocks = [libc.malloc(64 * 1024) for _ in range(1600)]
    for block in blocks:
        ctypes.memset(block, 1, 64 * 1024)
    keeper = libc.malloc(64 * 1024)  # without trimming, nothing below it goes back
    for block in blocks:
        libc.free(block)
    before = psutil.Process().memory_info().rss
    [loop] = LOOPS
    await loop.work()
    after = psutil.Process().memory_info().rss
    libc.free(keeper)
    assert before - after > 50 * MIB
