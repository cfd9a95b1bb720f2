"""What the memory domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from domains.memory.types import HostMemory, Move, Moved, Segment


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

    async def allocate(
        self, device_id: str, buffer_id: str, size: int, *, zeroed: bool = False
    ) -> None:
        """Take `size` bytes under a name that no buffer of the device has.

        When the caller is cancelled the buffer is freed as soon as it is there.

        Raises:
            ResourceExhausted: DEVICE_OUT_OF_MEMORY (HOST_OUT_OF_MEMORY where the device's
                memory is main memory) with `needed_bytes` and `free_bytes`.
            AlreadyExists: NAME_TAKEN.
        """
        ...

    async def free(self, device_id: str, buffer_id: str) -> int:
        """Give a buffer back; returns its size in bytes.

        Raises:
            NotFound: ALLOCATION_NOT_FOUND.
        """
        ...

    def move(self, device_id: str, move: Move) -> AsyncGenerator[int | Moved]:
        """Copy bytes; yields how many are done so far, and `Moved` last.

        Closing the generator early stops the move within one chunk and returns when it
        has stopped; what was copied stays copied.

        Raises:
            NotFound: ALLOCATION_NOT_FOUND.
            OutOfRange: OFFSET_OUT_OF_RANGE: a region is smaller than that.
            FailedPrecondition: The segment cannot be opened.
        """
        ...

    async def pin(self, device_id: str, segment: Segment) -> None:
        """Page-lock a segment for fast copies to and from the device.

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
