"""Main memory read from the real operating system, and under limits."""

from __future__ import annotations

import subprocess
import sys

import psutil

from domains.device.backends.cgroup import MemoryLimit
from domains.device.types import FigureQuality
from domains.memory.backends.host import HostMemoryMeter

MUCH = 64 << 20
_HOLD = f"data = b'x' * {MUCH}; print(len(data), flush=True); input()"


def test_the_machine_is_told_as_it_is_without_a_limit() -> None:
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
