"""What the memory domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from domains.device.types import DeviceFigures, LoadedComponent
from domains.memory.types import (
    Compare,
    History,
    HostMemory,
    Move,
    Reading,
    Segment,
    SegmentRegion,
)
from domains.values import ByteFigure, EvictionCause


class HostMemoryReader(Protocol):
    """Reads main memory."""

    def read(self) -> HostMemory:
        """Main memory now. Takes milliseconds and may block: call it off the loop."""
        ...


class DeviceBuffers(Protocol):
    """Buffers in the memory of devices, kept by the devices' workers.

    Orders do not wait for a run, except on devices that only one thread may touch. All
    raise Unavailable when there is no worker (DEVICE_UNAVAILABLE, DEVICE_QUARANTINED) or
    it is lost in mid-order (WORKER_LOST), and DeadlineExceeded (WORKER_HUNG) when it
    makes no progress; it is then replaced.
    """

    async def allocate(self, device_id: str, buffer_id: str, size: int) -> None:
        """Take `size` zero bytes under a name that no buffer of the device has.

        When the caller is cancelled the buffer is freed as soon as it is there.

        Raises:
            ResourceExhausted: DEVICE_OUT_OF_MEMORY (HOST_OUT_OF_MEMORY where the device's
                memory is main memory) with `needed_bytes` and
                `free_bytes` where they are known.
            AlreadyExists: NAME_TAKEN.
        """
        ...

    async def free(self, device_id: str, buffer_id: str) -> int:
        """Give a buffer back; returns its size in bytes.

        Raises:
            NotFound: ALLOCATION_NOT_FOUND.
        """
        ...

    def move(self, device_id: str, move: Move) -> AsyncGenerator[int]:
        """Copy bytes; yields how many are done so far.

        Closing the generator early stops the move within one chunk and returns when it
        has stopped; what was copied stays copied.

        Raises:
            NotFound: ALLOCATION_NOT_FOUND.
            OutOfRange: OFFSET_OUT_OF_RANGE: a region is smaller than that.
            FailedPrecondition: The segment cannot be opened.
        """
        ...

    def compare(self, device_id: str, compare: Compare) -> AsyncGenerator[int]:
        """Compare bytes; yields how many are equal so far, ends early at a difference.

        Closing the generator early stops within one chunk.

        Raises:
            NotFound, OutOfRange, FailedPrecondition: As for `move`.
        """
        ...

    async def pin(self, device_id: str, segment: Segment) -> None:
        """Page-lock a segment for fast copies to and from the device.

        When the caller is cancelled it is undone before that is raised.

        Raises:
            FailedPrecondition: DEVICE_UNSUPPORTED: the device's driver cannot.
            ResourceExhausted: HOST_OUT_OF_MEMORY: the system refuses to lock that much.
        """
        ...

    async def unpin(self, device_id: str, segment: Segment) -> None:
        """Undo `pin`; nothing happens when the segment is not pinned there."""
        ...

    async def release_cached(self, device_id: str) -> None:
        """Give memory back that the allocator keeps for reuse.

        The device's figures are fresh when it returns.
        """
        ...

    def on_buffers_lost(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Have `listener` called, on the loop, with the id of a device whose buffers are
        gone because its worker ended, before a new worker starts.

        Returns:
            What ends it; calling that twice is harmless.
        """
        ...


class DeviceMeter(Protocol):
    """Device memory as of the last figures of the devices' workers."""

    def figures(self, device_id: str) -> DeviceFigures | None:
        """None when no worker lives there or it has sent none yet. Never waits."""
        ...


class HostBuffers(Protocol):
    """Buffers in main memory that the workers can map: see `Segment`.

    What is asynchronous runs off the loop; the rest runs in the calling thread.
    """

    def figure(self) -> ByteFigure:
        """Bytes of all segments that are not freed, as the operating system counts them."""
        ...

    async def allocate(self, size: int) -> Segment:
        """Take `size` bytes, zeroed, whose pages are really there.

        When the caller is cancelled nothing is kept.

        Raises:
            ResourceExhausted: HOST_OUT_OF_MEMORY.
        """
        ...

    async def free(self, segment: Segment) -> int:
        """Give a segment back; returns its size. Freeing twice is harmless (0)."""
        ...

    def write(self, region: SegmentRegion, data: bytes) -> None:
        """Put bytes into a segment. Copies in the calling thread."""
        ...

    def read(self, region: SegmentRegion, length: int) -> bytes:
        """Bytes of a segment. Copies in the calling thread."""
        ...

    def move(
        self, source: SegmentRegion, target: SegmentRegion, length: int
    ) -> AsyncGenerator[int]:
        """Copy bytes between regions that do not overlap; yields how many are done.

        Closing it early stops within one chunk and returns when nothing moves any more.
        """
        ...

    def compare(
        self, first: SegmentRegion, second: SegmentRegion, length: int
    ) -> AsyncGenerator[int]:
        """Compare bytes; yields how many are equal so far, ends early at a difference."""
        ...


class CachedModels(Protocol):
    """Models whose files are kept in main memory, to be loaded from there."""

    def components(self) -> tuple[LoadedComponent, ...]:
        """What is kept, one component for each model; in use while work loads from it."""
        ...

    def pinned(self, model_id: str) -> bool:
        """Whether a model is to stay whatever the pressure."""
        ...

    async def evict(self, model_id: str, cause: EvictionCause) -> bool:
        """Let a model go; False where work has begun to use it."""
        ...


class Leaving(Protocol):
    """Hears why a model leaves a device, which only whoever takes it off knows."""

    def __call__(
        self, model_id: str, device_id: str, cause: EvictionCause
    ) -> AbstractContextManager[None]:
        """Around what takes the model off."""
        ...


class HistoryStore(Protocol):
    """The history of memory, kept in bounds and over restarts; the older the coarser."""

    def record(self, moment: float, readings: Sequence[Reading]) -> object:
        """Take in what was read or happened at `moment`, in Unix seconds.

        Returns at once and never fails: what the disk refuses is kept in memory.
        """
        ...

    async def histories(self, since: float, until: float, points: int) -> tuple[History, ...]:
        """Every place that has a history over a window, in Unix seconds; main memory first.

        A series has at most `points` samples: one for each equal part of the window in which
        memory was read.
        """
        ...
