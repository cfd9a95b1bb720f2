"""The heap of a process: freed memory, back to the system.

The allocator of glibc keeps what large messages, many streams and replaced models needed at
once, and what it keeps looks like a leak and is nobody else's. Other systems' allocators give
it back by themselves.
"""

from __future__ import annotations

import ctypes
import gc
import sys


def trim() -> None:
    """Return what is free; it may take some milliseconds."""
    if sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if malloc_trim is not None:
            malloc_trim(0)


def collect_and_trim() -> None:
    """Also free what is only held in circles."""
    gc.collect()
    trim()
