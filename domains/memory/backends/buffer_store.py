"""The buffers that a worker holds for leases: their names, sizes and what is pinned.

What differs between devices is in the classes derived from it: `ProcessBuffers` where a
device's memory is main memory, `TorchBuffers` elsewhere.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from domains.errors import AlreadyExists, FailedPrecondition, NotFound, OutOfRange, Reason
from domains.memory.backends.chunks import Guard
from domains.memory.backends.opened import OpenedSegment
from domains.memory.backends.spans import HostSpan
from domains.memory.types import (
    BufferRegion,
    Compare,
    Move,
    Segment,
    SegmentRegion,
)

B = TypeVar("B")


class BufferStore(ABC, Generic[B]):
    """Buffers of one device by name. Safe to use from two threads: one that moves bytes,
    and one that does everything else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buffers: dict[str, tuple[B, int]] = {}
        self._pinned: dict[Segment, OpenedSegment] = {}

    @property
    def leased_bytes(self) -> int:
        """Sum of the sizes of all buffers, exactly."""
        with self._lock:
            return sum(size for _, size in self._buffers.values())

    def allocate(self, buffer_id: str, size: int, guard: Guard) -> None:
        """Take `size` zero bytes that are really there; see the port `DeviceBuffers`.

        Raises:
            AlreadyExists: NAME_TAKEN.
            ResourceExhausted: DEVICE_OUT_OF_MEMORY or HOST_OUT_OF_MEMORY.
        """
        with self._lock:
            taken = buffer_id in self._buffers
        if taken:
            raise AlreadyExists("There is a buffer of that name.", reason=Reason.NAME_TAKEN)
        buffer = self._take(size, guard)
        with self._lock:
            self._buffers[buffer_id] = (buffer, size)

    def free(self, buffer_id: str) -> int:
        """Give a buffer back; returns its bytes.

        Raises:
            NotFound: ALLOCATION_NOT_FOUND.
        """
        with self._lock:
            found = self._buffers.pop(buffer_id, None)
            if found is None:
                raise _missing(buffer_id)
        size = found[1]
        del found  # a move that is under way may still hold it
        self._gave(size)
        return size

    @abstractmethod
    def move(self, move: Move, guard: Guard) -> None:
        """Copy bytes; see the port `DeviceBuffers`.

        Raises:
            NotFound: ALLOCATION_NOT_FOUND.
            OutOfRange: OFFSET_OUT_OF_RANGE.
            FailedPrecondition: A segment cannot be opened.
        """

    @abstractmethod
    def compare(self, compare: Compare, guard: Guard) -> int:
        """Compare bytes; returns how many are equal; see the port. Raises what `move` does."""

    def pin(self, segment: Segment) -> None:
        """Page-lock a segment for the device; nothing happens when it is.

        Raises:
            FailedPrecondition: DEVICE_UNSUPPORTED, or the segment cannot be opened.
            ResourceExhausted: HOST_OUT_OF_MEMORY.
        """
        if segment in self._pinned:
            return
        opened = OpenedSegment(segment)
        try:
            self._register(opened)
        except BaseException:
            opened.close()
            raise
        with self._lock:
            self._pinned[segment] = opened

    def unpin(self, segment: Segment) -> None:
        """Undo `pin`; nothing happens when the segment is not pinned here."""
        with self._lock:
            opened = self._pinned.pop(segment, None)
        if opened is not None:
            self._unregister(opened)
            opened.close()

    @abstractmethod
    def release_cached(self) -> None:
        """Give memory back that the allocator keeps for reuse."""

    @abstractmethod
    def _take(self, size: int, guard: Guard) -> B:
        """A new buffer of zeros whose memory is really there."""

    def _gave(self, size: int) -> None:
        """A buffer of that size was freed."""

    def _register(self, opened: OpenedSegment) -> None:
        """Page-lock it."""
        raise FailedPrecondition(
            "Host memory cannot be pinned for this device; allocate it without `pinned`.",
            reason=Reason.DEVICE_UNSUPPORTED,
        )

    def _unregister(self, opened: OpenedSegment) -> None:
        """Undo that."""

    def _buffer(self, region: BufferRegion, length: int) -> B:
        """The buffer of a region, which must lie within it."""
        with self._lock:
            found = self._buffers.get(region.buffer_id)
        if found is None:
            raise _missing(region.buffer_id)
        check_region(region.offset, length, found[1])
        return found[0]

    @contextmanager
    def _segment(self, region: SegmentRegion, length: int) -> Iterator[tuple[HostSpan, bool]]:
        """A segment's region in this process, and whether it is pinned."""
        check_region(region.offset, length, region.segment.size_bytes)
        with self._lock:
            pinned = self._pinned.get(region.segment)
        opened = pinned or OpenedSegment(region.segment)

        def prepare(offset: int, size: int) -> None:
            opened.populate(region.offset + offset, size)

        try:
            yield HostSpan(opened.address + region.offset, prepare), pinned is not None
        finally:
            if pinned is None:
                opened.close()


def check_region(offset: int, length: int, size: int) -> None:
    """Refuse bytes beyond the end.

    Raises:
        OutOfRange: OFFSET_OUT_OF_RANGE.
    """
    if not 0 <= offset <= offset + length <= size:
        raise OutOfRange(
            f"Bytes {offset} to {offset + length} do not lie within {size} bytes.",
            reason=Reason.OFFSET_OUT_OF_RANGE,
            metadata={"size_bytes": str(size)},
        )


def _missing(buffer_id: str) -> NotFound:
    return NotFound(
        "The device holds no buffer of that name.",
        reason=Reason.ALLOCATION_NOT_FOUND,
        metadata={"buffer_id": buffer_id},
    )
