"""Main memory as the operating system and the container tell it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import psutil

from domains.device.backends.cgroup import MemoryLimit, memory_limits
from domains.device.types import ByteFigure, FigureQuality
from domains.memory.types import HostMemory

_KEPT_SECONDS = 1.0
_LINUX = sys.platform == "linux"
_OURS = "psutil.Process().memory_info().rss, summed over this process and its children"
_APART = "without RssShmem of /proc, with the sizes of this server's segments instead"


class HostMemoryMeter:
    """Reads main memory; a limit on this process counts as if it were the machine's.

    What this server uses is summed over its processes at most once a second.

    Args:
        segments: Bytes of the server's shared segments, each counted once.
        limits: Finds the limits that apply; replaced where there are none to find.
    """

    def __init__(
        self,
        segments: Callable[[], int] = lambda: 0,
        *,
        limits: Callable[[], Sequence[MemoryLimit]] = memory_limits,
    ) -> None:
        self._segments = segments
        self._limits = limits
        self._ours: ByteFigure | None = None
        self._summed = 0.0

    def read(self) -> HostMemory:
        """Main memory now."""
        machine = psutil.virtual_memory()
        swap = psutil.swap_memory()
        total = ByteFigure.measured(machine.total, "psutil.virtual_memory().total")
        available = ByteFigure.measured(machine.available, "psutil.virtual_memory().available")
        limits = [one for one in self._limits() if one.limit_bytes < machine.total]
        container_limit = None
        if limits:
            tightest = min(limits, key=lambda limit: limit.limit_bytes)
            container_limit = ByteFigure.measured(tightest.limit_bytes, tightest.source)
            total = container_limit
            # A group above may have the wider limit and yet the less room.
            fullest = min(limits, key=_room)
            if _room(fullest) < machine.available:
                source = f"{fullest.source} - ({fullest.used_source})"
                available = ByteFigure(_room(fullest), FigureQuality.ESTIMATED, source)
        return HostMemory(
            total=total,
            available=available,
            used_by_server=self._used_by_server(),
            swap_total=ByteFigure.measured(swap.total, "psutil.swap_memory().total"),
            swap_used=ByteFigure.measured(swap.used, "psutil.swap_memory().used"),
            container_limit=container_limit,
        )

    def _used_by_server(self) -> ByteFigure:
        """An estimate: pages of programs that processes share are counted for each."""
        now = time.monotonic()
        if self._ours is None or now - self._summed >= _KEPT_SECONDS:
            if _LINUX:
                total, source = _resident() + self._segments(), f"{_OURS}, {_APART}"
            else:
                total, source = _resident(), _OURS
            self._ours = ByteFigure(total, FigureQuality.ESTIMATED, source)
            self._summed = now
        return self._ours


def _room(limit: MemoryLimit) -> int:
    return max(0, limit.limit_bytes - limit.used_bytes)


def _resident() -> int:
    """Resident bytes of this process and all below it.

    On Linux shared memory is left out: several processes map the same segment, and a
    segment that none maps is taken all the same.
    """
    server = psutil.Process()
    total = 0
    for process in (server, *server.children(recursive=True)):
        try:
            total += process.memory_info().rss - _shared(process.pid)
        except psutil.Error:
            continue  # It ended meanwhile.
    return total


def _shared(process_id: int) -> int:
    """Bytes of shared memory that a process has mapped; 0 where that is not told."""
    try:
        with open(f"/proc/{process_id}/status", encoding="ascii", errors="replace") as lines:
            found = (line.split() for line in lines if line.startswith("RssShmem:"))
            return next((int(words[1]) * 1024 for words in found), 0)
    except OSError:
        return 0
