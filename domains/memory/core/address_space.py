"""Memory in any place: taken, freed, moved, compared by the process that reaches it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TypeVar

from msgspec.structs import replace

from domains.device.core import DeviceInventory
from domains.errors import FailedPrecondition, NotFound, Unavailable
from domains.finishing import finished
from domains.memory.core.ring import Piece, pieces
from domains.memory.errors import PinningUnsupported
from domains.memory.ports import DeviceBuffers, HostBuffers
from domains.memory.types import (
    BufferRegion,
    Compare,
    Move,
    Place,
    Region,
    SegmentRegion,
)

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
            buffer_id = str(uuid.uuid4())
            await self._buffers.allocate(place.device_id, buffer_id, size)
            return BufferRegion(buffer_id)
        if place.pinned:
            self._pinning_devices()  # raises before anything is taken
        region = SegmentRegion(await self.host.allocate(size))
        if place.pinned:
            try:
                await self.pin(region)
            except BaseException:
                await finished(self.host.free(region.segment))
                raise
        return region

    async def free(self, place: Place, region: Region) -> int:
        """Free memory; returns its bytes. Goes on when the caller is cancelled.

        What a lost worker took along is gone already: that is no error.
        """
        return await finished(self._free(place, region))

    async def _free(self, place: Place, region: Region) -> int:
        if isinstance(region, SegmentRegion):
            await self.unpin(region)
            return await self.host.free(region.segment)
        with suppress(NotFound, Unavailable):
            return await self._buffers.free(place.device_id, region.buffer_id)
        return 0

    async def pin(self, region: SegmentRegion) -> None:
        """Page-lock main memory for the first device that can; the bytes stay.

        Raises:
            PinningUnsupported: No device can.
            ResourceExhausted: HOST_OUT_OF_MEMORY.
        """
        refusals = []
        for device_id in self._pinning_devices():
            try:
                await self._buffers.pin(device_id, region.segment)
            except (FailedPrecondition, Unavailable) as error:
                refusals.append(error.message)
                continue
            self._pins[region.segment.name] = device_id
            return
        raise PinningUnsupported(" ".join(refusals))

    async def unpin(self, region: SegmentRegion) -> None:
        """Undo `pin`; nothing happens when it is not pinned or its worker is gone."""
        device_id = self._pins.pop(region.segment.name, None)
        if device_id is not None:
            with suppress(FailedPrecondition, Unavailable):
                await self._buffers.unpin(device_id, region.segment)

    def forget_pins(self, device_id: str) -> frozenset[str]:
        """A device's worker ended: names of the segments that are not pinned any more."""
        names = frozenset(n for n, device in self._pins.items() if device == device_id)
        for name in names:
            del self._pins[name]
        return names

    def _pinning_devices(self) -> list[str]:
        devices = [
            device.device_id
            for device in self._devices.devices
            if not device.traits.in_main_memory and not device.explanation
        ]
        if not devices:
            raise PinningUnsupported("this machine has no device with memory of its own.")
        return devices

    # Bytes.

    async def move(self, source: Located, target: Located, length: int) -> AsyncGenerator[int]:
        """Copy bytes between any two regions that do not overlap; yields how many are done.

        Between two devices reading and writing overlap in time. Closing it stops within a
        chunk and returns when nothing moves any more; what was copied stays copied.

        Raises:
            Unavailable: A worker is lost or there is none.
            ResourceExhausted: HOST_OUT_OF_MEMORY: no room for bytes on their way between
                devices.
        """
        (from_place, begin), (to_place, end) = source, target
        if isinstance(begin, SegmentRegion) and isinstance(end, SegmentRegion):
            steps: AsyncGenerator[int] = self.host.move(begin, end, length)
        elif from_place.host or to_place.host or from_place == to_place:
            device_id = from_place.device_id or to_place.device_id
            steps = self._buffers.move(device_id, Move(begin, end, length))
        else:
            steps = self._between_devices(source, target, length)
        async with aclosing(steps):
            async for done in steps:
                yield done

    async def move_whole(self, source: Located, target: Located, length: int) -> None:
        """`move` to its end."""
        async with aclosing(self.move(source, target, length)) as steps:
            async for _ in steps:
                pass

    async def compare(
        self, first: Located, second: Located, length: int
    ) -> AsyncGenerator[int]:
        """Compare bytes of any two regions; yields how many are equal so far.

        Ends early at a difference. Closing it stops within a chunk.

        Raises:
            Unavailable, ResourceExhausted: As for `move`.
        """
        (one_place, one), (other_place, other) = first, second
        if isinstance(one, SegmentRegion) and isinstance(other, SegmentRegion):
            steps = self.host.compare(one, other, length)
        elif one_place.host or other_place.host or one_place == other_place:
            device_id = one_place.device_id or other_place.device_id
            steps = self._buffers.compare(device_id, Compare(one, other, length))
        else:
            steps = self._compare_devices(first, second, length)
        async with aclosing(steps):
            async for equal in steps:
                yield equal

    def _pieces(self, located: Located, length: int) -> AsyncGenerator[Piece]:
        """A region's bytes in order, in shared slots; see `ring.pieces`."""
        place, region = located

        async def fill(slot: SegmentRegion, offset: int, size: int) -> None:
            await self.move_whole((place, at(region, offset)), (Place(), slot), size)

        return pieces(self.host, fill, length)

    async def _between_devices(
        self, source: Located, target: Located, length: int
    ) -> AsyncGenerator[int]:
        place, region = target
        async with aclosing(self._pieces(source, length)) as arriving:
            async for piece in arriving:
                part = (place, at(region, piece.offset))
                await self.move_whole((Place(), piece.slot), part, piece.size)
                yield piece.offset + piece.size

    async def _compare_devices(
        self, first: Located, second: Located, length: int
    ) -> AsyncGenerator[int]:
        place, region = second
        async with aclosing(self._pieces(first, length)) as arriving:
            async for piece in arriving:
                there = at(region, piece.offset)
                order = Compare(piece.slot, there, piece.size)
                equal = await self._equal(place.device_id, order)
                yield piece.offset + equal
                if equal != piece.size:
                    return

    async def _equal(self, device_id: str, order: Compare) -> int:
        equal = 0
        async with aclosing(self._buffers.compare(device_id, order)) as steps:
            async for so_far in steps:
                equal = so_far
        return equal
