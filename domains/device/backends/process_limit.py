"""Every limit on the memory of this process: its group's, and its own (`ulimit -v`)."""

from __future__ import annotations

import sys

import psutil

from domains.device.backends.cgroup import MemoryLimit, memory_limits


def process_limits() -> list[MemoryLimit]:
    """The limit on its address space, if it has one; children inherit it, each for itself.

    Windows has no such limit.
    """
    if sys.platform == "win32":
        return []
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return []
    used = int(psutil.Process().memory_info().vms)
    return [MemoryLimit(soft, used, "RLIMIT_AS", "psutil.Process().memory_info().vms")]


def all_limits() -> list[MemoryLimit]:
    """Those of the groups that this process is in, and its own."""
    return [*memory_limits(), *process_limits()]


def capped(available: int) -> int:
    """What of `available` bytes this process can have within its limits."""
    return min([available, *(limit.room_bytes for limit in all_limits())])
