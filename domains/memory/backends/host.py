"""Main memory as the operating system and the container report it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import psutil

from domains.device.backends.cgroup import MemoryLimit
from domains.device.backends.process_limit import all_limits
from domains.memory.types import HostMemory
from domains.values import ByteFigure, FigureQuality

_KEPT_SECONDS = 1.0
_STATUS = "/proc/{}/status"
_OURS = "summed over this process and its children"
_RESIDENT = f"psutil.Process().memory_info().rss, {_OURS}"
_ANONYMOUS = f"RssAnon of /proc, {_OURS}, and the sizes of this server's segments"


class HostMemoryMeter:
    """Reads main memory; a limit on this process counts as if it were the machine's.

    What this server uses is summed over its processes at most once a second.

    Args:
        segments: Bytes of the server's shared memory, counted once.
        limits: Finds the limits that apply; replaced where there are none to find.
    """

    def __init__(
        self,
        segments: Callable[[], int] = lambda: 0,
        *,
        limits: Callable[[], Sequence[MemoryLimit]] = all_limits,
    ) -> None:
        self._segments = segments
        self._limits = limits
        self._apart = _anonymous(psutil.Process()) is not None
        self._ours: ByteFigure | None = None
        self._summed = 0.0

    def read(self) -> HostMemory:
        """Main memory now."""
        machine = psutil.virtual_memory()
        swap_total, swap_used = _swap()
        total = ByteFigure.measured(machine.total, "psutil.virtual_memory().total")
        available = ByteFigure.measured(machine.available, "psutil.virtual_memory().available")
        limits = [one for one in self._limits() if one.limit_bytes < machine.total]
        container_limit = None
        if limits:
            tightest = min(limits, key=lambda limit: limit.limit_bytes)
            container_limit = ByteFigure.measured(tightest.limit_bytes, tightest.source)
            total = container_limit
            # A group above may have the wider limit and yet the less room.
            fullest = min(limits, key=lambda limit: limit.room_bytes)
            if fullest.room_bytes < machine.available:
                source = f"{fullest.source} - ({fullest.used_source})"
                available = ByteFigure(fullest.room_bytes, FigureQuality.ESTIMATED, source)
        return HostMemory(
            total=total,
            available=available,
            used_by_server=self._used_by_server(),
            swap_total=swap_total,
            swap_used=swap_used,
            container_limit=container_limit,
        )

    def _used_by_server(self) -> ByteFigure:
        """An estimate: pages that processes share may count for each of them."""
        now = time.monotonic()
        if self._ours is None or now - self._summed >= _KEPT_SECONDS:
            if self._apart:
                total, source = _summed(_anonymous) + self._segments(), _ANONYMOUS
            else:
                total, source = _summed(_resident), _RESIDENT
            self._ours = ByteFigure(total, FigureQuality.ESTIMATED, source)
            self._summed = now
        return self._ours


def _swap() -> tuple[ByteFigure, ByteFigure]:
    """All of the swap and what is used of it; Windows counts neither where its performance
    counters are turned off."""
    try:
        swap = psutil.swap_memory()
    except (OSError, RuntimeError):
        unknown = ByteFigure.unknown("the system does not tell")
        return unknown, unknown
    return (
        ByteFigure.measured(swap.total, "psutil.swap_memory().total"),
        ByteFigure.measured(swap.used, "psutil.swap_memory().used"),
    )


def _summed(bytes_of: Callable[[psutil.Process], int | None]) -> int:
    server = psutil.Process()
    total = 0
    for process in (server, *server.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # It ended meanwhile.
            total += bytes_of(process) or 0
    return total


def _resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def _anonymous(process: psutil.Process) -> int | None:
    """Resident bytes that are the process's alone; None where that is unknown.

    Neither mapped files, which are the system's cache and given back when it needs room, nor
    shared memory: several processes map the same segment, and one that none maps is taken
    all the same.
    """
    try:
        path = _STATUS.format(process.pid)
        with open(path, encoding="ascii", errors="replace") as lines:
            found = (line.split() for line in lines if line.startswith("RssAnon:"))
            return next((int(words[1]) * 1024 for words in found), None)
    except OSError:
        return None
