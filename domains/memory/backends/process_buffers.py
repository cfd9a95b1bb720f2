"""Buffers of a device whose memory is main memory: anonymous pages of its worker.

Straight from the system instead of from torch's allocator, so that what is freed is given
back exactly, and copied with memmove, which neither takes the interpreter's lock nor the
threads that draw.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress

import psutil

from domains.device.backends.process_limit import capped
from domains.errors import Reason, ResourceExhausted
from domains.heap import collect_and_trim
from domains.memory.backends.buffer_store import BufferStore, check_region
from domains.memory.backends.chunks import Guard, chunks, in_two_threads
from domains.memory.backends.opened import SegmentFile
from domains.memory.backends.spans import HostSpan, compare_spans, copy_spans
from domains.memory.types import BufferRegion, Compare, Move, Region, SegmentRegion

RESERVE_BYTES = 256 << 20
"""Left to the system, which ends a process that takes the last page."""


def available_bytes() -> int:
    """Main memory that can be had without swapping, within this process's limit."""
    return capped(int(psutil.virtual_memory().available))


class ProcessBuffers(BufferStore[mmap.mmap]):
    """Buffers in the main memory of this process.

    Args:
        available: Reads how much can be had.
    """

    def __init__(self, available: Callable[[], int] = available_bytes) -> None:
        super().__init__()
        self._available = available

    def release_cached(self) -> None:
        """Have the C library give back what it keeps of freed memory, where it can."""
        collect_and_trim()

    def _take(self, size: int, guard: Guard) -> mmap.mmap:
        # The system would promise more than it has, and end a process that touches it.
        free = max(0, self._available() - RESERVE_BYTES)
        if size > free:
            raise _exhausted(size, free, f"{free} bytes are free")
        try:
            memory = _anonymous(size)
        except (OSError, MemoryError, OverflowError, ValueError) as error:
            raise _exhausted(size, free, "the system refuses them in one piece") from error
        address = _address(memory)
        for offset, length in chunks(size):
            # They are zero already: this makes the system really hand out the pages.
            ctypes.memset(address + offset, 0, length)
            guard.passed(offset + length)
        return memory

    def move(self, move: Move, guard: Guard) -> None:
        """Copy bytes."""
        guard.check_stop()
        source, target, length = move.source, move.target, move.length
        with ExitStack() as held:
            pair = _better_unmapped(source, target)
            if pair is None:
                one, other = self._span(source, length, held), self._span(target, length, held)
                copy_spans(one, other, length, guard)
                return
            span, file = self._span(pair[0], length, held), _file(pair[1], length, held)
            act = file.read if pair[0] is target else file.write

            def copy(offset: int, size: int) -> bool:
                act(span.address + offset, offset, size)
                return True

            in_two_threads(copy, length, guard)

    def compare(self, compare: Compare, guard: Guard) -> int:
        """Compare bytes; returns how many are equal."""
        guard.check_stop()
        first, second, length = compare.first, compare.second, compare.length
        with ExitStack() as held:
            pair = _better_unmapped(first, second)
            if pair is None:
                one, other = self._span(first, length, held), self._span(second, length, held)
                return compare_spans(one, other, length, guard)
            span, file = self._span(pair[0], length, held), _file(pair[1], length, held)

            def same(offset: int, size: int) -> bool:
                return file.equals(span.address + offset, offset, size)

            return in_two_threads(same, length, guard)

    def _span(self, region: Region, length: int, held: ExitStack) -> HostSpan:
        if not isinstance(region, BufferRegion):
            return held.enter_context(self._segment(region, length))[0]
        memory = self._buffer(region, length)
        held.callback(lambda: memory)  # it stays for as long as the work on it takes
        return HostSpan(_address(memory) + region.offset)


def _better_unmapped(
    first: Region, second: Region
) -> tuple[BufferRegion, SegmentRegion] | None:
    """The buffer and the segment of a pair whose segment is faster as a file than mapped."""
    match first, second:
        case (BufferRegion() as buffer, SegmentRegion() as there) | (
            SegmentRegion() as there,
            BufferRegion() as buffer,
        ) if SegmentFile.offered(there.segment) and not there.segment.huge_pages:
            return buffer, there
        case _:
            return None


def _file(region: SegmentRegion, length: int, held: ExitStack) -> SegmentFile:
    check_region(region.offset, length, region.segment.size_bytes)
    return held.enter_context(closing(SegmentFile(region)))


def _anonymous(size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A quarter of the time to take them, and fewer misses in copies.
        with suppress(OSError):  # of kernels without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _exhausted(needed: int, free: int, why: str) -> ResourceExhausted:
    return ResourceExhausted(
        f"{needed} bytes do not fit in main memory: {why}.",
        reason=Reason.HOST_OUT_OF_MEMORY,
        metadata={"needed_bytes": str(needed), "free_bytes": str(free)},
    )
