"""The heap of a process: freed memory, back to the system; what stays, left in peace.

The allocator of glibc keeps what large messages, many streams and replaced models needed at
once, and what it keeps looks like a leak and is nobody else's. Other systems' allocators give
it back by themselves.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


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


@cache
def settle() -> None:
    """What is there by now stays until the process ends: collections look through it no more.

    With the model libraries imported, each would take a quarter of a second, in the middle of
    whatever runs. For when everything is imported and nothing is there that has to go again;
    once in a process.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def without_collections() -> Iterator[None]:
    """While much is made that stays: each search for circles would go through all of it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
