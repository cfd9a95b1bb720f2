"""Main memory read from the real operating system, and under limits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from domains.device.backends.cgroup import MemoryLimit
from domains.memory.backends import host
from domains.memory.backends.host import HostMemoryMeter
from domains.memory.backends.segments import HostSegments
from domains.values import FigureQuality

MUCH = 64 << 20
_HOLD = f"data = b'x' * {MUCH}; print(len(data), flush=True); input()"
_MAP = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print(sum(pages[::4096]), flush=True)
input()
"""


def test_the_machine_is_told_whole_without_a_limit() -> None:
    memory = HostMemoryMeter(limits=list).read()

    assert memory.total.value == psutil.virtual_memory().total
    assert memory.available.value is not None
    assert memory.used_by_server.value is not None
    assert 0 < memory.available.value <= memory.total.value
    assert 1 << 20 < memory.used_by_server.value < memory.total.value
    assert memory.container_limit is None
    assert memory.swap_total.value == psutil.swap_memory().total


def test_children_count_as_the_servers() -> None:
    before = HostMemoryMeter(limits=list).read().used_by_server.value
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = HostMemoryMeter(limits=list).read().used_by_server.value
        child.communicate(b"\n")

    assert before is not None
    assert during is not None
    assert during - before > MUCH * 0.9


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_files_that_processes_map_are_not_the_servers(tmp_path: Path) -> None:
    """Programs and weights are cache of the system, which counts as available."""
    path = tmp_path / "weights"
    path.write_bytes(b"x" * MUCH)
    command = [sys.executable, "-c", _MAP, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert psutil.Process(child.pid).memory_info().rss > MUCH
        during = HostMemoryMeter(limits=list).read().used_by_server.value
        child.communicate(b"\n")
    after = HostMemoryMeter(limits=list).read().used_by_server.value

    assert during is not None
    assert after is not None
    assert during - after < MUCH / 2


def test_where_a_process_tells_no_parts_all_that_is_resident_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "_STATUS", "/nowhere/{}")

    used = HostMemoryMeter(lambda: 1 << 50, limits=list).read().used_by_server

    assert used.value is not None
    assert 1 << 20 < used.value < 1 << 50
    assert used.source.startswith("psutil.Process().memory_info().rss")


def test_a_system_that_does_not_tell_its_swap_tells_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise RuntimeError(
            "PdhAddEnglishCounterW failed. Performance counters may be disabled."
        )

    monkeypatch.setattr(psutil, "swap_memory", refuse)

    memory = HostMemoryMeter(limits=list).read()

    assert memory.available.value
    assert memory.swap_total.quality is memory.swap_used.quality is FigureQuality.UNKNOWN
    assert memory.swap_total.source


def test_a_tight_limit_stands_for_the_machine() -> None:
    limit = MemoryLimit(2 << 20, 1 << 20, "cgroup memory.max", "cgroup used")

    memory = HostMemoryMeter(limits=lambda: [limit]).read()

    assert memory.total.value == 2 << 20
    assert memory.total.source == "cgroup memory.max"
    assert memory.container_limit == memory.total
    assert memory.available.value == 1 << 20
    assert memory.available.quality is FigureQuality.ESTIMATED
    assert memory.available.source == "cgroup memory.max - (cgroup used)"


def test_a_limit_that_is_passed_leaves_nothing() -> None:
    memory = HostMemoryMeter(limits=lambda: [MemoryLimit(1 << 20, 2 << 20, "a", "b")]).read()

    assert memory.available.value == 0


def test_a_limit_above_the_machine_is_none() -> None:
    memory = HostMemoryMeter(limits=lambda: [MemoryLimit(1 << 60, 0, "a", "b")]).read()

    assert memory.container_limit is None
    assert memory.total.source == "psutil.virtual_memory().total"


def test_a_wider_group_above_may_have_the_less_room() -> None:
    limits = [
        MemoryLimit(4 << 20, 1 << 20, "own", "x"),
        MemoryLimit(8 << 20, 7 << 20, "up", "y"),
    ]

    memory = HostMemoryMeter(limits=lambda: limits).read()

    assert memory.total.value == 4 << 20
    assert memory.available.value == 1 << 20
    assert memory.available.source == "up - (y)"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_segments_count_once_whoever_maps_them() -> None:
    """A segment that is mapped by this process counts as the server says, not twice."""
    segments = HostSegments()
    before = HostMemoryMeter(segments.leased_bytes).read().used_by_server.value
    asyncio.run(segments.allocate(MUCH))
    during = HostMemoryMeter(segments.leased_bytes).read().used_by_server.value
    segments.close()

    assert before is not None
    assert during is not None
    assert MUCH * 0.9 < during - before < MUCH * 1.5
