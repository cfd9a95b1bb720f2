"""Freed main memory, back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Have the C library give back what it keeps of freed memory.

    Only the GNU library keeps much and can be asked; elsewhere it is a collection alone.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
