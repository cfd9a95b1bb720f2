"""Taking memory for a client: the place found, the quota kept, room made."""

from __future__ import annotations

from dataclasses import dataclass

from domains.device.core import DeviceInventory
from domains.errors import Reason, ResourceExhausted
from domains.memory.core.ledger import Ledger, Reservation
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.core.room import Room
from domains.memory.core.store import MemoryStore
from domains.memory.types import Place, Region

_OUT_OF_MEMORY = {Reason.HOST_OUT_OF_MEMORY, Reason.DEVICE_OUT_OF_MEMORY}


@dataclass(frozen=True)
class Taken:
    """Memory that is there and that no lease names yet; the reservation counts it."""

    reservation: Reservation
    place: Place
    region: Region


class Lender:
    """Takes memory for leases.

    Args:
        ledger: Counts what clients hold.
        store: Takes the memory.
        room: Makes room.
        monitor: Knows how large memories are.
        devices: Finds the device that a request names.
        quota_bytes: Most bytes of one memory that one client may hold; None is half of
            that memory, 0 is no limit.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: MemoryStore,
        room: Room,
        monitor: MemoryMonitor,
        devices: DeviceInventory,
        *,
        quota_bytes: int | None,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._room = room
        self._monitor = monitor
        self._devices = devices
        self._quota_bytes = quota_bytes

    async def resolve(self, place: Place) -> Place:
        """The place with its device's id instead of an alias.

        Raises:
            DeviceNotFound, DeviceUnavailable: There is no such device, or it cannot be used.
        """
        if place.host:
            return place
        return Place((await self._devices.resolve(place.device_id)).device_id)

    async def take(self, client: str, place: Place, size: int) -> Taken:
        """Take `size` bytes in a resolved place.

        When the caller is cancelled nothing is kept.

        Raises:
            QuotaExceeded: CLIENT_QUOTA_EXCEEDED.
            OutOfMemory: There is no room; nothing was tried, or the memory itself refused.
            Unavailable: The device's worker is lost or there is none.
            PinningUnsupported: No device can pin.
        """
        quota = await self._quota(place)
        reservation = self._ledger.reserve(client, place, size, quota)
        try:
            await self._room.make(place, size, lambda: self._ledger.reserved(place) - size)
            region = await self._allocate(place, size)
        except BaseException:
            self._ledger.cancel(reservation)
            raise
        return Taken(reservation, place, region)

    async def _allocate(self, place: Place, size: int) -> Region:
        try:
            return await self._store.allocate(place, size)
        except ResourceExhausted as error:
            if error.reason not in _OUT_OF_MEMORY:
                raise
            # The memory itself refused, whatever the figures said before.
            extent = await self._monitor.extent(place)
            raise self._room.refused(place, size, extent.free) from error

    async def give_up(self, taken: Taken) -> None:
        """Give back what no lease came to name."""
        self._ledger.cancel(taken.reservation)
        await self._store.free(taken.place, taken.region)

    async def _quota(self, place: Place) -> int | None:
        if self._quota_bytes is not None:
            return self._quota_bytes or None
        total = (await self._monitor.extent(place)).total
        return None if total is None else total // 2
