"""Main memory as the operating system and the container tell it."""

from __future__ import annotations

from collections.abc import Callable

import psutil

from domains.device.backends.cgroup import MemoryLimit, memory_limit
from domains.device.types import ByteFigure, FigureQuality
from domains.memory.types import HostMemory


class HostMemoryMeter:
    """Reads main memory; a limit on this process counts as if it were the machine's.

    Args:
        limit: Finds the limit; replaced where there is none to find.
    """

    def __init__(self, limit: Callable[[], MemoryLimit | None] = memory_limit) -> None:
        self._limit = limit

    def read(self) -> HostMemory:
        """Main memory now."""
        machine = psutil.virtual_memory()
        swap = psutil.swap_memory()
        total = ByteFigure.measured(machine.total, "psutil.virtual_memory().total")
        available = ByteFigure.measured(machine.available, "psutil.virtual_memory().available")
        limit = self._limit()
        container_limit = None
        if limit is not None and limit.limit_bytes < machine.total:
            container_limit = ByteFigure.measured(limit.limit_bytes, limit.source)
            total = container_limit
            within = max(0, limit.limit_bytes - limit.used_bytes)
            if within < machine.available:
                available = ByteFigure(
                    within,
                    FigureQuality.ESTIMATED,
                    f"{limit.source} - ({limit.used_source})",
                )
        return HostMemory(
            total=total,
            available=available,
            used_by_server=_resident(psutil.Process()),
            swap_total=ByteFigure.measured(swap.total, "psutil.swap_memory().total"),
            swap_used=ByteFigure.measured(swap.used, "psutil.swap_memory().used"),
            container_limit=container_limit,
        )


def _resident(server: psutil.Process) -> ByteFigure:
    """Resident memory of a process and all below it.

    An estimate: pages that they share are counted for each.
    """
    total = server.memory_info().rss
    for process in server.children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # It ended meanwhile.
    return ByteFigure(
        total,
        FigureQuality.ESTIMATED,
        "psutil.Process().memory_info().rss, summed over this process and its children",
    )
