"""Gives memory that was freed back to the system.

The allocator of glibc keeps what large messages and many streams needed at once, and what
it keeps looks like a leak and is nobody else's. Other systems' allocators give it back by
themselves.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable

from domains.loops import Loop

_INTERVAL_SECONDS = 10.0


async def give_back() -> None:
    """Return what is free; in a thread, as it may take some milliseconds."""
    trim = _trim()
    if trim is not None:
        await asyncio.to_thread(trim, 0)


LOOPS = (Loop("heap", _INTERVAL_SECONDS, give_back),)
"""To be run in the background."""


def _trim() -> Callable[[int], int] | None:
    """glibc's own function; None where the C library is another."""
    if not sys.platform.startswith("linux"):
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
