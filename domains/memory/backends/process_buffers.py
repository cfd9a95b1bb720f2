"""Buffers of a device whose memory is main memory: anonymous pages of its worker.

Straight from the system instead of from torch's allocator, so that what is freed is given
back exactly, and copied with memmove, which neither takes the interpreter's lock nor the
threads that draw.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress

import psutil

from domains.device.backends.cgroup import memory_limit
from domains.errors import Reason, ResourceExhausted
from domains.memory.backends.chunks import Watch, chunks, in_two_threads
from domains.memory.backends.comparing import compare_spans, equal
from domains.memory.backends.moving import HostSpan, copy_bytes, copy_in_chunks
from domains.memory.backends.opened import SegmentFile
from domains.memory.backends.store import BufferStore, check_region
from domains.memory.types import (
    BufferRegion,
    Compare,
    Move,
    Moved,
    Region,
    Segment,
    SegmentRegion,
)

RESERVE_BYTES = 256 << 20
"""Left to the system: who takes the last page is ended, not refused."""
_PIECE_BYTES = 256 << 10  # of a file being compared: stays in a core's own cache


def available_bytes() -> int:
    """Main memory that can be had without swapping, within this process's limit."""
    available = psutil.virtual_memory().available
    limit = memory_limit()
    if limit is not None:
        available = min(available, max(0, limit.limit_bytes - limit.used_bytes))
    return available


class ProcessBuffers(BufferStore[mmap.mmap]):
    """Buffers in the main memory of this process.

    Args:
        available: Tells how much can be had.
    """

    def __init__(self, available: Callable[[], int] = available_bytes) -> None:
        super().__init__()
        self._available = available

    def release_cached(self) -> None:
        """Have the C library give back what it keeps of freed memory, where it can."""
        gc.collect()
        if sys.platform == "linux":
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU library
            if trim is not None:
                trim(0)

    def _take(self, size: int, zeroed: bool, watch: Watch) -> mmap.mmap:
        # The system would promise more than it has and end somebody when it is touched.
        free = max(0, self._available() - RESERVE_BYTES)
        if size > free:
            raise _exhausted(size, free)
        try:
            memory = _anonymous(size)
        except (OSError, MemoryError, OverflowError, ValueError) as error:
            raise _exhausted(size, free) from error
        address = _address(memory)
        for offset, length in chunks(size):
            # Zeroed or not: this is what makes the system really hand out the pages.
            ctypes.memset(address + offset, 0, length)
            watch.passed(offset + length)
        return memory

    def _move(self, move: Move, watch: Watch) -> Moved:
        source, target = move.source, move.target
        match source, target:
            case BufferRegion(), SegmentRegion(segment) if _better_unmapped(segment):
                return self._by_file(source, target, move, watch, outwards=True)
            case SegmentRegion(segment), BufferRegion() if _better_unmapped(segment):
                return self._by_file(target, source, move, watch, outwards=False)
            case _:
                return self._by_mapping(move, watch)

    def _by_file(
        self,
        here: BufferRegion,
        there: SegmentRegion,
        move: Move,
        watch: Watch,
        *,
        outwards: bool,
    ) -> Moved:
        memory = self._buffer(here, move.length)  # it stays for as long as the move takes
        check_region(there.offset, move.length, there.segment.size_bytes)
        address = _address(memory) + here.offset
        with closing(SegmentFile(there.segment)) as file:
            act = file.write if outwards else file.read

            def copy(offset: int, size: int) -> None:
                act(address + offset, there.offset + offset, size)

            return copy_in_chunks(copy, address, move.length, watch, hash=move.hash)

    def _by_mapping(self, move: Move, watch: Watch) -> Moved:
        with ExitStack() as held:
            source = self._span(move.source, move.length, held)
            target = self._span(move.target, move.length, held)
            return copy_bytes(source, target, move.length, watch, hash=move.hash)

    def _compare(self, compare: Compare, watch: Watch) -> int:
        first, second, length = compare.first, compare.second, compare.length
        match first, second:
            case BufferRegion(), SegmentRegion(segment) if _better_unmapped(segment):
                return self._compare_by_file(first, second, length, watch)
            case SegmentRegion(segment), BufferRegion() if _better_unmapped(segment):
                return self._compare_by_file(second, first, length, watch)
        with ExitStack() as held:
            one, other = self._span(first, length, held), self._span(second, length, held)
            return compare_spans(one, other, length, watch)

    def _compare_by_file(
        self, here: BufferRegion, there: SegmentRegion, length: int, watch: Watch
    ) -> int:
        memory = self._buffer(here, length)  # it stays for as long as this takes
        check_region(there.offset, length, there.segment.size_bytes)
        address = _address(memory) + here.offset
        with closing(SegmentFile(there.segment)) as file:

            def same(offset: int, size: int) -> bool:
                piece = ctypes.create_string_buffer(min(size, _PIECE_BYTES))
                read = ctypes.addressof(piece)
                for begin, count in chunks(size, _PIECE_BYTES):
                    at = offset + begin
                    file.read(read, there.offset + at, count)
                    if not equal(read, address + at, count):
                        return False
                return True

            return in_two_threads(same, length, watch)

    def _span(self, region: Region, length: int, held: ExitStack) -> HostSpan:
        if not isinstance(region, BufferRegion):
            return held.enter_context(self._segment(region, length))[0]
        memory = self._buffer(region, length)
        held.callback(lambda: memory)  # it stays for as long as the move takes
        return HostSpan(_address(memory) + region.offset)


def _better_unmapped(segment: Segment) -> bool:
    return SegmentFile.offered(segment) and not segment.huge_pages


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


def _exhausted(needed: int, free: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"{needed} bytes do not fit in main memory, {free} bytes are free.",
        reason=Reason.HOST_OUT_OF_MEMORY,
        metadata={"needed_bytes": str(needed), "free_bytes": str(free)},
    )
