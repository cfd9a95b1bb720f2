"""Segments over the real operating system: there, shared, copied fast, given back."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import psutil
import pytest

from domains.errors import Reason, ResourceExhausted
from domains.memory.backends import chunks, mapping, segments, spans
from domains.memory.backends.segments import HostSegments
from domains.memory.errors import OutOfMemory
from domains.memory.types import Segment, SegmentRegion

MIB = 1 << 20
LARGE = 300 * MIB
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostSegments]:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", MIB)
    made = HostSegments()
    yield made
    made.close()


async def last(steps: AsyncGenerator[object]) -> object:
    result: object = None
    async with aclosing(steps):
        async for result in steps:  # noqa: B007
            pass
    return result


def shared_bytes() -> int:
    """Shared memory mapped by this process whose pages are there, and those of files too."""
    return int(psutil.Process().memory_info().shared)


def handles() -> int:
    """Of segments: a process that has run other tests may close theirs at any time."""
    found = 0
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += handle.readlink().name.startswith("memfd:deviceops")
    return found


@linux
async def test_three_hundred_megabytes_are_really_there_and_go(host: HostSegments) -> None:
    before = shared_bytes()
    segment = await host.allocate(LARGE)

    assert host.figure().value == LARGE
    # Pages of libraries, which count as well, may be dropped meanwhile.
    assert shared_bytes() - before > LARGE - LARGE // 100
    assert await host.free(segment) == LARGE
    assert await host.free(segment) == 0
    assert shared_bytes() - before < LARGE // 10
    assert host.figure().value == 0


async def test_new_memory_is_zero_and_keeps_what_is_written(host: HostSegments) -> None:
    region = SegmentRegion(await host.allocate(10_000), 5)

    assert host.read(region, 9_000) == bytes(9_000)
    host.write(region, b"abc")
    assert host.read(SegmentRegion(region.segment, 4), 5) == b"\0abc\0"


@linux
async def test_another_process_opens_it_by_its_name(host: HostSegments) -> None:
    segment = await host.allocate(4096)
    program = f"open({segment.name!r}, 'r+b').write(b'hello')"

    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=True)

    assert host.read(SegmentRegion(segment), 5) == b"hello"


async def test_moves_and_comparisons_tell_how_far_they_are(host: HostSegments) -> None:
    data = random.Random(2).randbytes(3 * MIB + 1)
    source = SegmentRegion(await host.allocate(4 * MIB), 7)
    target = SegmentRegion(await host.allocate(4 * MIB), 99)
    host.write(source, data)

    steps = [done async for done in host.move(source, target, len(data))]

    assert steps == sorted(steps)
    assert steps[-1] == len(data)
    assert host.read(target, len(data)) == data
    assert await last(host.compare(source, target, len(data))) == len(data)
    host.write(SegmentRegion(target.segment, 99 + 2 * MIB), b"no")
    assert await last(host.compare(source, target, len(data))) == 2 * MIB


async def test_a_closed_move_touches_nothing_any_more(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = ctypes.memmove

    def slowly(*arguments: int) -> None:
        time.sleep(0.002)
        really(*arguments)

    begin, end = [SegmentRegion(await host.allocate(64 * MIB)) for _ in range(2)]
    host.write(begin, b"x" * 64 * MIB)
    monkeypatch.setattr("ctypes.memmove", slowly)
    moving = host.move(begin, end, 64 * MIB)

    await anext(moving)
    await moving.aclose()
    copied = host.read(end, 64 * MIB).count(b"x")
    await asyncio.sleep(0.02)

    assert MIB <= copied < 64 * MIB
    assert host.read(end, 64 * MIB).count(b"x") == copied


async def test_a_cancelled_comparison_ends_before_its_caller_does(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*_arguments: int) -> bool:
        time.sleep(0.01)
        return True

    monkeypatch.setattr(spans, "equal", slowly)
    region = SegmentRegion(await host.allocate(64 * MIB))
    task = asyncio.create_task(last(host.compare(region, region, 64 * MIB)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await host.free(region.segment) == 64 * MIB  # would be fatal to a thread in it


async def test_a_region_past_the_end_is_refused(host: HostSegments) -> None:
    segment = await host.allocate(100)
    for offset, length in ((0, 101), (100, 1), (-1, 5), (50, -1)):
        with pytest.raises(ValueError, match="does not lie within"):
            host.read(SegmentRegion(segment, offset), length)


@linux
async def test_a_caller_that_gives_up_leaves_no_handle(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = handles()
    made = []

    def make(size: int) -> mapping.Mapping:
        made.append(mapping.Mapping(size))
        return made[-1]

    monkeypatch.setattr(segments, "_make", make)
    for _ in range(5):
        task = asyncio.create_task(host.allocate(8 * MIB))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for _ in range(500):
        if len(made) == 5 and handles() == before:
            break
        await asyncio.sleep(0.01)

    assert len(made) == 5
    assert handles() == before
    assert host.leased_bytes() == 0


@linux
@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOSPC])
async def test_no_room_is_told_and_leaves_no_handle(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    before = handles()

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OutOfMemory) as refused:
        await host.allocate(4096)

    assert refused.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert handles() == before


async def test_windows_that_promises_no_more_memory_has_no_room(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = OSError(errno.EINVAL, "The paging file is too small")
        error.winerror = 1455  # type: ignore[attr-defined,unused-ignore]
        raise error

    monkeypatch.setattr(mapping, "_memfd", False)
    monkeypatch.setattr(mapping, "SharedMemory", refuse)
    with pytest.raises(OutOfMemory) as refused:
        await host.allocate(4096)

    assert refused.value.reason is Reason.HOST_OUT_OF_MEMORY


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
async def test_no_handle_is_not_called_a_lack_of_memory(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(ResourceExhausted) as refused:
        await host.allocate(4096)

    assert refused.value.reason is Reason.HOST_LIMIT_REACHED
    assert refused.value.metadata == {"resource": "files"}


async def test_another_fault_is_not_called_a_lack_of_memory(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(PermissionError):
        await host.allocate(4096)


async def test_handles_for_everything_else_are_spared(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_most", 2)
    for _ in range(2):
        await host.allocate(1)

    with pytest.raises(ResourceExhausted) as refused:
        await host.allocate(1)
    assert refused.value.reason is Reason.HOST_LIMIT_REACHED


async def test_where_there_is_no_memfd_blocks_do_the_same(
    host: HostSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "_memfd", False)
    segment = await host.allocate(10_000)
    region = SegmentRegion(segment)

    assert not segment.name.startswith("/proc/")
    host.write(region, b"abc")
    assert host.read(region, 4) == b"abc\0"
    assert host.figure().value == 10_000
    assert await host.free(segment) == 10_000
    with pytest.raises(FileNotFoundError):
        segments_named(segment)


def segments_named(segment: Segment) -> None:
    from multiprocessing.shared_memory import SharedMemory

    SharedMemory(segment.name)


async def test_copies_are_nearly_as_fast_as_memcpy() -> None:
    """256 MiB, the best of each, taken in turn until it shows: other programs run as well."""
    host = HostSegments()
    size = 256 * MIB
    one, other = [SegmentRegion(await host.allocate(size)) for _ in range(2)]
    begin, end = host._span(one, size).address, host._span(other, size).address
    plain, ours = [], []
    for _ in range(25):
        started = time.perf_counter()
        ctypes.memmove(end, begin, size)
        plain.append(time.perf_counter() - started)
        started = time.perf_counter()
        assert await last(host.move(one, other, size)) == size
        ours.append(time.perf_counter() - started)
        if len(ours) > 3 and min(plain) / min(ours) > 0.7:
            break
    host.close()

    assert min(plain) / min(ours) > 0.5  # a floor under noise; benchmarks measure it


def test_the_limit_on_files_is_raised_as_far_as_it_goes() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        most = segments._raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most
        assert most == (1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("most", "got"), [(10_240, 10_240), (0, 256)])
def test_a_system_that_gives_fewer_files_than_its_limit_says_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, most: int, got: int
) -> None:
    """As macOS does, whose limit is endless, and a sandbox that lets nobody ask."""
    resource = pytest.importorskip("resource")

    def set_limit(_which: int, limits: tuple[int, int]) -> None:
        if limits[0] > most:
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", set_limit)

    assert segments._raise_file_limit() == got
    assert 0 < HostSegments()._most < got


_CLOSED_AT_WORK = """
import asyncio
from domains.memory.backends.segments import HostSegments
from domains.memory.types import SegmentRegion
from domains.session.errors import ShuttingDown

async def main():
    host, size = HostSegments(), 128 << 20
    one, other = [SegmentRegion(await host.allocate(size)) for _ in range(2)]
    steps = host.move(one, other, size)
    await anext(steps)
    host.close()
    assert host.leased_bytes() == 0
    try:
        async for _ in steps:
            pass
    except ShuttingDown:
        print("told")
    for late in (lambda: host.read(one, 1), lambda: host.write(one, b"x")):
        try:
            late()
        except ShuttingDown:
            print("refused")

asyncio.run(main())
"""


def test_segments_are_given_back_once_nothing_copies_them() -> None:
    """As at the server's end, when a client still reads."""
    command = [sys.executable, "-c", _CLOSED_AT_WORK]
    for _ in range(3):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        # On a busy machine all may be copied by then, and there is nothing to tell.
        told = ended.stdout.split()
        assert (ended.returncode, [word for word in told if word != "told"]) == (
            0,
            ["refused", "refused"],
        )
