"""Host buffers: shared segments of the front, copied, hashed and compared in threads."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence

from domains.memory.backends.chunks import CHUNK_BYTES, chunks
from domains.memory.backends.mapping import Mapping
from domains.memory.backends.spans import equal
from domains.memory.errors import OutOfMemory
from domains.memory.types import Place, Segment, SegmentRegion
from domains.values import ByteFigure

# One core cannot use all of memory's bandwidth.
_LANES = min(2, os.cpu_count() or 1)
_SPARE_FILES = 512  # file handles left for connections, workers and pictures
_NO_ROOM = {errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}


class HostSegments:
    """Every segment of this server; see the port `HostBuffers`.

    Args:
        chunk_bytes: How much is copied, hashed or compared between two looks at whether to
            stop.
    """

    def __init__(self, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._mappings: dict[str, Mapping] = {}
        self._most = _raise_file_limit() - _SPARE_FILES

    def figure(self) -> ByteFigure:
        """Bytes of all segments that are not freed, in whole pages where the system tells."""
        mappings = tuple(self._mappings.values())
        source = mappings[0].source if mappings else "no segment exists"
        return ByteFigure.measured(sum(one.taken_bytes() for one in mappings), source)

    def lent(self) -> int:
        """Bytes of all segments, as they were asked for."""
        return sum(one.segment.size_bytes for one in tuple(self._mappings.values()))

    @property
    def count(self) -> int:
        """How many segments there are."""
        return len(self._mappings)

    async def allocate(self, size: int) -> Segment:
        """Take `size` bytes whose pages are there; see the port for what is raised."""
        if len(self._mappings) >= self._most:
            raise OutOfMemory(Place(), size, None, {})
        making = asyncio.ensure_future(asyncio.to_thread(_make, size))
        try:
            mapping = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_discard)
            raise
        self._mappings[mapping.segment.name] = mapping
        return mapping.segment

    async def free(self, segment: Segment) -> int:
        """Give a segment back; returns its size, 0 when it was given back before."""
        mapping = self._mappings.pop(segment.name, None)
        if mapping is None:
            return 0
        await asyncio.to_thread(mapping.close)
        return segment.size_bytes

    def close(self) -> None:
        """Give every segment back."""
        while self._mappings:
            self._mappings.popitem()[1].close()

    def write(self, region: SegmentRegion, data: bytes) -> None:
        """Put bytes into a segment."""
        ctypes.memmove(self._address(region, len(data)), data, len(data))

    def read(self, region: SegmentRegion, length: int) -> bytes:
        """Bytes of a segment."""
        return ctypes.string_at(self._address(region, length), length)

    def move(
        self, source: SegmentRegion, target: SegmentRegion, length: int
    ) -> AsyncGenerator[int]:
        """Copy bytes between regions that do not overlap; yields how many are done."""
        begin, end = self._address(source, length), self._address(target, length)

        def copy(offset: int, size: int) -> bool:
            ctypes.memmove(end + offset, begin + offset, size)
            return True

        return self._steps(length, copy, lanes=_LANES)

    def compare(
        self, first: SegmentRegion, second: SegmentRegion, length: int
    ) -> AsyncGenerator[int]:
        """Compare bytes; yields how many are equal so far, ends early at a difference."""
        one, other = self._address(first, length), self._address(second, length)

        def same(offset: int, size: int) -> bool:
            return equal(one + offset, other + offset, size)

        return self._steps(length, same, lanes=_LANES)

    async def _steps(
        self, length: int, step: Callable[[int, int], bool], *, lanes: int = 1
    ) -> AsyncGenerator[int]:
        """Run `step(offset, size)` over `length` bytes in threads; yields bytes done.

        With one lane the steps go in order; with more, several chunks are worked on at
        once. Ends when a step is False. Closed or cancelled, it returns when the threads
        have ended, so that no memory is touched any more.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[int] = asyncio.Queue()
        stop = threading.Event()
        # One list: threads share it.
        left = iter(list(chunks(length, self._chunk_bytes)))

        def work() -> None:
            try:
                for offset, size in left:
                    if stop.is_set():
                        return
                    if not step(offset, size):
                        stop.set()
                        return
                    loop.call_soon_threadsafe(told.put_nowait, size)
            finally:
                loop.call_soon_threadsafe(told.put_nowait, 0)

        working = [asyncio.ensure_future(asyncio.to_thread(work)) for _ in range(lanes)]
        done, open_lanes = 0, lanes
        try:
            while open_lanes:
                size = await told.get()
                if size:
                    done += size
                    yield done
                else:
                    open_lanes -= 1
        finally:
            stop.set()
            await _ended(working)
        for lane in working:
            lane.result()

    def _address(self, region: SegmentRegion, length: int) -> int:
        mapping = self._mappings[region.segment.name]
        if not 0 <= region.offset <= region.offset + length <= mapping.segment.size_bytes:
            raise ValueError("the region does not lie within its segment")
        return mapping.address + region.offset


def _make(size: int) -> Mapping:
    try:
        return Mapping(size)
    except (MemoryError, ValueError, OverflowError):  # mmap's words for more than there is
        raise OutOfMemory(Place(), size, None, {}) from None
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OutOfMemory(Place(), size, None, {}) from None
        raise


def _discard(making: asyncio.Future[Mapping]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


async def _ended(working: Sequence[asyncio.Future[None]]) -> None:
    """Wait for threads that were told to stop, whoever else wants to stop meanwhile."""
    cancelled = False
    while not all(one.done() for one in working):
        try:
            await asyncio.wait(working)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _raise_file_limit() -> int:
    """Raise this process's limit on open files as far as it may; returns the limit.

    A segment takes one file, and common limits (1024) are made for programs that use
    `select`, which this one does not.
    """
    if sys.platform == "win32":
        return 1 << 16
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft
