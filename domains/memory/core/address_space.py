"""Memory in any place: taken, freed, moved and compared by the process that reaches it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from msgspec.structs import replace

from domains.device.core import DeviceInventory
from domains.errors import DomainError, FailedPrecondition, NotFound, Unavailable
from domains.finishing import finished
from domains.memory.core.ring import pieces
from domains.memory.errors import PinningUnsupported
from domains.memory.ports import DeviceBuffers, HostBuffers
from domains.memory.types import (
    BufferRegion,
    Compare,
    Move,
    Place,
    Region,
    Segment,
    SegmentRegion,
)

_log = logging.getLogger("deviceops.memory")

R = TypeVar("R", SegmentRegion, BufferRegion, Region)
Located = tuple[Place, Region]
"""A region and the place it lies in."""


def at(region: R, offset: int) -> R:
    """The same region from `offset` bytes further on."""
    return replace(region, offset=region.offset + offset)


class AddressSpace:
    """Takes, frees, moves and compares bytes, in main memory and on devices.

    Args:
        host: Segments in main memory.
        buffers: Buffers on devices.
        devices: Finds a device that main memory can be pinned for.
    """

    def __init__(
        self, host: HostBuffers, buffers: DeviceBuffers, devices: DeviceInventory
    ) -> None:
        self.host = host
        self._buffers = buffers
        self._devices = devices
        self._pins: dict[str, str] = {}  # the device a segment is pinned for, by its name

    async def allocate(self, place: Place, size: int) -> Region:
        """Take zeroed memory that is really there; nothing is kept of a cancelled call.

        Raises:
            ResourceExhausted: HOST_OUT_OF_MEMORY, DEVICE_OUT_OF_MEMORY.
            Unavailable: There is no worker, or it was lost.
            PinningUnsupported: No device can pin.
        """
        if not place.host:
            region = BufferRegion(str(uuid.uuid4()))
            await self._buffers.allocate(place.device_id, region.buffer_id, size)
            return region
        pinning = self._pinning_devices() if place.pinned else []
        segment = await self.host.allocate(size)
        if place.pinned:
            try:
                await self._pin(segment, pinning)
            except BaseException:
                await finished(self.host.free(segment))
                raise
        return SegmentRegion(segment)

    async def free(self, place: Place, region: Region) -> int:
        """Free memory; returns its bytes. Goes on when the caller is cancelled.

        What a lost worker took along is gone already: that is no error.
        """
        return await finished(self._free(place, region))

    async def _free(self, place: Place, region: Region) -> int:
        if isinstance(region, BufferRegion):
            with suppress(NotFound, Unavailable):
                return await self._buffers.free(place.device_id, region.buffer_id)
            return 0
        try:
            await self._unpin(region.segment)
        finally:
            freed = await self.host.free(region.segment)
        return freed

    def pinned(self, region: Region) -> bool:
        """Whether it is main memory that is page-locked now."""
        return isinstance(region, SegmentRegion) and region.segment.name in self._pins

    def forget_pins(self, device_id: str) -> frozenset[str]:
        """A device's worker ended: names of the segments that are not pinned any more."""
        names = frozenset(n for n, device in self._pins.items() if device == device_id)
        for name in names:
            del self._pins[name]
        return names

    async def _pin(self, segment: Segment, devices: list[str]) -> None:
        """Page-lock main memory for the first device that can."""
        refusals = []
        for device_id in devices:
            try:
                await self._buffers.pin(device_id, segment)
            except (FailedPrecondition, Unavailable) as error:
                refusals.append(error.message)
                continue
            self._pins[segment.name] = device_id
            return
        raise PinningUnsupported(" ".join(refusals))

    async def _unpin(self, segment: Segment) -> None:
        """Undo `_pin` as far as it can be undone; nothing happens when it is not pinned."""
        device_id = self._pins.pop(segment.name, None)
        if device_id is None:
            return
        try:
            await self._buffers.unpin(device_id, segment)
        except Unavailable:
            pass  # what the worker pinned ended with it
        except DomainError as error:
            _log.warning("memory pinned for %s was not unpinned: %s", device_id, error)

    def _pinning_devices(self) -> list[str]:
        devices = [
            device.device_id
            for device in self._devices.devices
            if not device.traits.in_main_memory and self._devices.works(device)
        ]
        if not devices:
            raise PinningUnsupported("this machine has no device with memory of its own.")
        return devices

    # Bytes.

    def move(self, source: Located, target: Located, length: int) -> AsyncGenerator[int]:
        """Copy bytes between any two regions that do not overlap; yields how many are done.

        Between two devices reading and writing overlap in time. Closing it stops within a
        chunk and returns when nothing moves any more; what was copied stays copied.

        Raises:
            Unavailable: A worker is lost or there is none.
            ResourceExhausted: HOST_OUT_OF_MEMORY: no room for bytes on their way between
                devices.
        """
        begin, end = source[1], target[1]
        if isinstance(begin, SegmentRegion) and isinstance(end, SegmentRegion):
            return self.host.move(begin, end, length)
        if device_id := _reaching_both(source, target):
            return self._buffers.move(device_id, Move(begin, end, length))
        return self._piecewise(self.move, source, target, length)

    async def move_whole(self, source: Located, target: Located, length: int) -> None:
        """`move` to its end."""
        await _last(self.move(source, target, length))

    def compare(self, first: Located, second: Located, length: int) -> AsyncGenerator[int]:
        """Compare bytes of any two regions; yields how many are equal so far.

        Ends early at a difference. Closing it stops within a chunk.

        Raises:
            Unavailable, ResourceExhausted: As for `move`.
        """
        one, other = first[1], second[1]
        if isinstance(one, SegmentRegion) and isinstance(other, SegmentRegion):
            return self.host.compare(one, other, length)
        if device_id := _reaching_both(first, second):
            return self._buffers.compare(device_id, Compare(one, other, length))
        return self._piecewise(self.compare, first, second, length)

    async def _piecewise(
        self,
        act: Callable[[Located, Located, int], AsyncGenerator[int]],
        source: Located,
        target: Located,
        length: int,
    ) -> AsyncGenerator[int]:
        """Have `act` work on bytes of two devices, once those of the source are in slots."""

        async def fill(slot: SegmentRegion, offset: int, size: int) -> None:
            await self.move_whole((source[0], at(source[1], offset)), (Place(), slot), size)

        async with aclosing(pieces(self.host, fill, length)) as arriving:
            async for piece in arriving:
                there = target[0], at(target[1], piece.offset)
                done = await _last(act((Place(), piece.slot), there, piece.size))
                yield piece.offset + done
                if done != piece.size:
                    return


def _reaching_both(first: Located, second: Located) -> str:
    """The device whose worker reaches both regions; empty where each is on one of its own."""
    devices = {place.device_id for place, _ in (first, second) if place.device_id}
    return devices.pop() if len(devices) == 1 else ""


async def _last(steps: AsyncGenerator[int]) -> int:
    done = 0
    async with aclosing(steps):
        async for done in steps:  # noqa: B007 - the last one counts
            pass
    return done
