"""Host buffers: shared segments of the front, copied and compared in threads."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from domains.errors import Cancelled, Reason
from domains.finishing import finished
from domains.memory.backends.chunks import Guard
from domains.memory.backends.mapping import Mapping
from domains.memory.backends.spans import HostSpan, compare_spans, copy_spans
from domains.memory.errors import OutOfMemory
from domains.memory.types import Place, Segment, SegmentRegion
from domains.session.errors import ShuttingDown
from domains.shortages import shortage_of
from domains.values import ByteFigure

_SPARE_FILES = 512  # file handles left for connections, workers and pictures
_LAST_USE_SECONDS = 5.0
_MOST_FILES, _MOST_FILES_OF_MACOS = 1 << 16, 10_240
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}  # where memory is a file


class HostSegments:
    """Every segment of this server; see the port `HostBuffers`."""

    def __init__(self) -> None:
        self._mappings: dict[str, Mapping] = {}
        self._uses = _Uses()
        files = _raise_file_limit()
        self._most = max(files - _SPARE_FILES, files // 2)

    def figure(self) -> ByteFigure:
        """Bytes of all segments, in whole pages where the system counts them."""
        mappings = tuple(self._mappings.values())
        source = mappings[0].source if mappings else "no segment exists"
        return ByteFigure.measured(sum(one.taken_bytes() for one in mappings), source)

    def leased_bytes(self) -> int:
        """Sum of the sizes of all segments, exactly."""
        return sum(one.segment.size_bytes for one in tuple(self._mappings.values()))

    async def allocate(self, size: int) -> Segment:
        """Take `size` bytes whose pages are there; see the port for what is raised."""
        self._uses.check()
        if len(self._mappings) >= self._most:
            raise _refusal(OSError(errno.EMFILE, "every handle for segments is taken"), size)
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
        """Give every segment back, once no thread touches any; what is asked of them from here
        on is refused with SHUTTING_DOWN. Those that are touched for long go with the process.
        """
        if self._uses.end():
            while self._mappings:
                self._mappings.popitem()[1].close()

    def write(self, region: SegmentRegion, data: bytes) -> None:
        """Put bytes into a segment."""
        with self._uses.one():
            ctypes.memmove(self._span(region, len(data)).address, data, len(data))

    def read(self, region: SegmentRegion, length: int) -> bytes:
        """Bytes of a segment."""
        return ctypes.string_at(self._span(region, length).address, length)

    def move(
        self, source: SegmentRegion, target: SegmentRegion, length: int
    ) -> AsyncGenerator[int]:
        """Copy bytes between regions that do not overlap; yields how many are done."""
        begin, end = self._span(source, length), self._span(target, length)
        return _steps(partial(copy_spans, begin, end, length), length, self._uses)

    def compare(
        self, first: SegmentRegion, second: SegmentRegion, length: int
    ) -> AsyncGenerator[int]:
        """Compare bytes; yields how many are equal so far, ends early at a difference."""
        one, other = self._span(first, length), self._span(second, length)
        return _steps(partial(compare_spans, one, other, length), length, self._uses)

    def _span(self, region: SegmentRegion, length: int) -> HostSpan:
        self._uses.check()
        mapping = self._mappings[region.segment.name]
        if not 0 <= region.offset <= region.offset + length <= mapping.segment.size_bytes:
            raise ValueError("the region does not lie within its segment")
        return HostSpan(mapping.address + region.offset)


class _Uses:
    """What threads do with segments now, and whether they may still begin anything."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._over = False

    def check(self) -> None:
        """Refuse what comes after the end, and stop what is under way then.

        Raises:
            ShuttingDown: The segments are being given back.
        """
        if self._over:
            raise ShuttingDown

    @contextmanager
    def one(self) -> Iterator[None]:
        """Within, segments stay where they are."""
        with self._changed:
            self.check()
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def end(self) -> bool:
        """Let nothing begin any more, and wait for what is under way; whether that is over."""
        with self._changed:
            self._over = True
            return self._changed.wait_for(lambda: not self._under_way, _LAST_USE_SECONDS)


async def _steps(work: Callable[[Guard], int], length: int, uses: _Uses) -> AsyncGenerator[int]:
    """Have `work` done beside the loop; yields how many bytes are, and what it returns.

    Closed or cancelled, it returns when the work has ended, so that no memory is touched any
    more.
    """
    loop = asyncio.get_running_loop()
    steps: asyncio.Queue[int | None] = asyncio.Queue()
    stop = threading.Event()

    def report(done: int | None) -> None:
        loop.call_soon_threadsafe(steps.put_nowait, done)

    def check_stop() -> None:
        if stop.is_set():
            raise Cancelled("Its caller has gone.")
        uses.check()

    def run() -> None:
        try:
            with uses.one():
                well = work(Guard(report, check_stop))
            if well < length:
                report(well)
        finally:
            report(None)

    working = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        while (done := await steps.get()) is not None:
            yield done
    finally:
        stop.set()
        with suppress(Cancelled):
            await finished(working)


def _make(size: int) -> Mapping:
    try:
        return Mapping(size)
    except (MemoryError, ValueError, OverflowError):  # mmap's words for more than there is
        raise OutOfMemory(Place(), size, None, {}) from None
    except OSError as error:
        raise _refusal(error, size) from None


def _refusal(error: OSError, size: int) -> Exception:
    """What a client hears: that there is no memory, or no handle, which is something else."""
    shortage = shortage_of(error)
    no_memory = shortage is not None and shortage.reason is Reason.HOST_OUT_OF_MEMORY
    if no_memory or error.errno in _NO_ROOM:
        return OutOfMemory(Place(), size, None, {})
    return shortage or error


def _discard(making: asyncio.Future[Mapping]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


def _raise_file_limit() -> int:
    """Raise this process's limit on open files as far as it may; returns the limit.

    A segment takes one file, and common limits (1024) are made for programs that use
    `select`, which this one does not.
    """
    if sys.platform == "win32":
        return _MOST_FILES
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_FILES
    for wanted in (_MOST_FILES, _MOST_FILES_OF_MACOS):
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        # macOS refuses more than it has for a process, whatever it names as the limit.
        with suppress(ValueError, OSError):
            if soft < wanted:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                return wanted
    return soft
