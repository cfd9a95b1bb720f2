"""Page-locked main memory: what a device fetches by itself, at the full speed of its link.

What the front keeps of a model is locked once and stays so: locking takes longer than the copy.
A range is known by the files in it, and one that is used for other files is given up before:
a driver would fetch from the pages that were there when it was locked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from domains.inference.backends.weight_source import WeightSource
from domains.model.backends.arena import open_arena
from domains.values import CachedFile

# <driver_types.h>: usable by every context; memory that this process may only read.
_PORTABLE, _READ_ONLY = 0x01, 0x08
# Files of some models: what was locked and is evicted is not free before it is unlocked.
_MOST_LOCKED = 32

_log = logging.getLogger("deviceops.page_locks")
_locked: dict[tuple[str, CachedFile], int] = {}


@contextmanager
def page_locked(device: torch.device, source: WeightSource) -> Iterator[None]:
    """Have what main memory keeps of a model page-locked, where that device profits.

    Where a driver cannot, copies are slower and nothing else changes.

    Args:
        device: That fetches.
        source: Of the model's bytes.
    """
    if device.type == "cuda" and source.cached is not None:
        runtime: Any = torch.cuda
        _lock(source, runtime.cudart())
    yield


def _lock(source: WeightSource, runtime: Any) -> None:
    cached = source.cached
    assert cached is not None
    try:
        arena = open_arena(cached.arena, cached.arena_bytes)
    except (OSError, ValueError):
        return
    start = _address(arena)
    for file in cached.files:
        key = (cached.arena, file)
        if key in _locked or not file.size_bytes:
            continue
        _give_up(cached.arena, file, runtime)
        address = start + file.offset_bytes
        for flags in (_PORTABLE | _READ_ONLY, _PORTABLE):
            code = int(runtime.cudaHostRegister(address, file.size_bytes, flags))
            if code == 0:
                _locked[key] = address
                break
        else:
            _log.info("main memory cannot be page-locked for the device: error %d", code)


def _give_up(arena: str, file: CachedFile, runtime: Any) -> None:
    """Unlock what lies where `file` lies now, and what was locked longest ago."""
    end = file.offset_bytes + file.size_bytes
    stale = [
        key
        for key in _locked
        if key[0] != arena
        or (
            key[1].offset_bytes < end
            and file.offset_bytes < key[1].offset_bytes + key[1].size_bytes
        )
    ]
    stale += [key for key in _locked if key not in stale][: max(0, len(_locked) - _MOST_LOCKED)]
    for key in stale:
        runtime.cudaHostUnregister(_locked.pop(key))


def _address(view: memoryview) -> int:
    """Where a view begins; ctypes gives no address of memory that is for reading only."""
    return int(torch.frombuffer(view, dtype=torch.uint8).data_ptr())
