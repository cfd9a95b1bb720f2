"""A limit on a process's own memory is known, and figures are true under it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from domains.device.backends.process_limit import process_limits

GIGABYTES = 4
limited = pytest.mark.skipif(shutil.which("prlimit") is None, reason="sets a limit of Linux")


def under_a_limit(code: str) -> str:
    command = ["prlimit", f"--as={GIGABYTES << 30}", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_without_a_limit_there_is_none() -> None:
    assert process_limits() == []


@limited
def test_a_limit_counts_with_what_is_taken_of_it() -> None:
    told = under_a_limit(
        "from domains.device.backends.process_limit import process_limits, capped\n"
        "(limit,) = process_limits()\n"
        "print(limit.limit_bytes, limit.used_bytes, limit.source, capped(1 << 50))"
    )
    limit, used, source, room = told.split()
    assert (int(limit), source) == (GIGABYTES << 30, "RLIMIT_AS")
    assert 0 < int(used) < 1 << 30
    assert abs(int(room) - (int(limit) - int(used))) < 100 << 20


@limited
def test_main_memory_is_no_more_than_the_limit() -> None:
    told = under_a_limit(
        "from domains.memory.backends.host import HostMemoryMeter\n"
        "host = HostMemoryMeter().read()\n"
        "print(host.total.value, host.available.value, host.total.source)"
    )
    total, available, source = told.split()
    assert (int(total), source) == (GIGABYTES << 30, "RLIMIT_AS")
    assert int(available) < GIGABYTES << 30


@limited
def test_what_does_not_fit_is_refused_with_what_is_free_under_the_limit() -> None:
    told = under_a_limit(
        "from domains.errors import ResourceExhausted\n"
        "from domains.memory.backends.chunks import Guard\n"
        "from domains.memory.backends.process_buffers import ProcessBuffers\n"
        "guard = Guard(lambda done: None, lambda: None)\n"
        "try:\n"
        f"    ProcessBuffers().allocate('one', {GIGABYTES << 30}, guard)\n"
        "except ResourceExhausted as error:\n"
        "    print(error.reason.value, error.metadata['free_bytes'])"
    )
    reason, free = told.split()
    assert reason == "HOST_OUT_OF_MEMORY"
    assert 0 < int(free) < GIGABYTES << 30
