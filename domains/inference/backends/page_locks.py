"""Page-locked main memory: what a device fetches by itself, at the full speed of its link.

What the front keeps of a model is locked once and stays so: locking takes longer than the copy.
A range is known by the files in it, and one that is used for other files is given up before:
a driver would fetch from the pages that were there when it was locked. What the front has
evicted is given up as well: until then its pages are the driver's, and nobody else's.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from domains.device.backends.torch_gauge import backend_of
from domains.inference.backends.weight_source import WeightSource
from domains.model.backends.arena import open_arena
from domains.values import CachedFile

# <driver_types.h>: usable by every context; memory that this process may only read.
_PORTABLE, _READ_ONLY = 0x01, 0x08
# Files of some models: what was locked and is evicted is not free before it is unlocked.
_MOST_LOCKED = 32

_log = logging.getLogger("deviceops.page_locks")
_locked: dict[tuple[str, CachedFile], int] = {}
# Jobs lock and give up; the thread of the signs of life gives up as well.
_changing = threading.Lock()
_problem: str | None = None


@contextmanager
def page_locked(device: torch.device, source: WeightSource) -> Iterator[None]:
    """Have what main memory keeps of a model page-locked, where that device profits.

    Where a driver cannot, copies are slower and nothing else changes.

    Args:
        device: That fetches.
        source: Of the model's bytes.
    """
    # Of torch's modules only those that speak CUDA's interface have this.
    if hasattr(backend_of(device), "cudart") and source.cached is not None:
        with _changing:
            _lock(source, _runtime(), lambda: _forget_error(device))
    yield


def lock_problem() -> str | None:
    """Why the last range could not be locked, empty where it could; None where nobody tried."""
    return _problem


def give_up_evicted() -> None:
    """Unlock what the front does not keep any more. From any thread, and often: it costs one
    call of the system for each range."""
    if not _locked or not hasattr(os, "SEEK_DATA"):
        return
    with _changing:
        for key in [key for key in _locked if not _is_kept(*key)]:
            _runtime().cudaHostUnregister(_locked.pop(key))


def _is_kept(arena: str, file: CachedFile) -> bool:
    """Whether the arena still has a file's first page: evicting takes all of them."""
    try:
        handle = os.open(arena, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True  # the front has ended, and this worker ends with it
    try:
        return os.lseek(handle, file.offset_bytes, os.SEEK_DATA) == file.offset_bytes
    except OSError:  # there is no data at all from there on
        return False
    finally:
        os.close(handle)


def _runtime() -> Any:
    cuda: Any = torch.cuda
    return cuda.cudart()


def _lock(source: WeightSource, runtime: Any, forget_error: Callable[[], None]) -> None:
    global _problem
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
                _problem = ""
                break
            forget_error()
        else:
            _problem = f"The driver does not page-lock it: error {code}."
            _log.info("main memory cannot be page-locked for the device: error %d", code)


def _forget_error(device: torch.device) -> None:
    """A refusal stays the driver's last error, and the next kernel would be blamed for it."""
    with suppress(RuntimeError):
        torch.zeros(1, device=device).add_(1)


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
