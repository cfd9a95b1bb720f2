"""Reading memory into its history, and answering from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from domains import checks
from domains.device.core import DeviceInventory
from domains.device.types import Device, DeviceFigures, DeviceMemory, LoadedComponent
from domains.limits import LIMITS
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.errors import InvalidMemoryRequest
from domains.memory.ports import DeviceMeter, HistoryStore
from domains.memory.types import History, Holder, HostMemory, MemoryHolder, Place, Reading

_Holders = dict[Holder, int]


class MemoryRecorder:
    """Reads memory into the history and answers from it.

    Someone calls `sample` every second. Belongs to one event loop.

    Args:
        monitor: Reads memory.
        meter: Has the device memory that the workers last sent.
        devices: Knows the devices, and finds the one that a request names.
        store: Keeps the history and sums it up.
        host_leases: Bytes of allocations in main memory.
        cached: Models that main memory keeps to be loaded.
        now: The wall clock in Unix seconds.
    """

    def __init__(
        self,
        monitor: MemoryMonitor,
        meter: DeviceMeter,
        devices: DeviceInventory,
        store: HistoryStore,
        *,
        host_leases: Callable[[], int],
        cached: Callable[[], Iterable[LoadedComponent]],
        now: Callable[[], float],
    ) -> None:
        self._monitor = monitor
        self._meter = meter
        self._devices = devices
        self._store = store
        self._host_leases = host_leases
        self._cached = cached
        self._now = now

    async def sample(self) -> None:
        """Read memory now."""
        status = await self._monitor.known()
        by_id = {device.device_id: device for device in self._devices.devices}
        readings = [self._host(status.host)]
        readings += [self._device(one, by_id[one.device_id]) for one in status.devices]
        self._store.record(self._now(), [one for one in readings if one is not None])

    def count_eviction(self, place: Place) -> None:
        """Note that a model was evicted from a place."""
        self._store.record(self._now(), [Reading(place, evictions=1)])

    def count_out_of_memory(self, place: Place) -> None:
        """Note that something failed for want of memory."""
        self._store.record(self._now(), [Reading(place, out_of_memory=1)])

    async def analytics(
        self, device: str = "", *, window: float = 3600.0, points: int = 60
    ) -> tuple[History, ...]:
        """Main memory and `device`, an id or alias; empty means every place.

        Args:
            device: Also one that is gone, by its id, as long as its history is kept.
            window: Seconds back from now, 1 to 2,592,000.
            points: Most samples of a series, 1 to 1000.

        Raises:
            DeviceNotFound: There is no such device.
            InvalidMemoryRequest: FIELD_OUT_OF_RANGE.
        """
        InvalidMemoryRequest.check(
            checks.number("window", window, LIMITS["GetMemoryAnalyticsRequest.window"]),
            checks.number("points", points, LIMITS["GetMemoryAnalyticsRequest.points"]),
        )
        now = self._now()
        found = await self._store.histories(now - window, now, points)
        if not device:
            return found
        if device not in {one.place.device_id for one in found}:
            device = (await self._devices.get(device)).device.device_id
        return tuple(one for one in found if one.place.device_id in ("", device))

    def _host(self, host: HostMemory) -> Reading | None:
        if host.total.value is None or host.available.value is None:
            return None
        used = host.total.value - host.available.value
        holders: _Holders = {MemoryHolder.ALLOCATIONS: self._host_leases()}
        _add_models(holders, self._cached())
        for device in self._devices.devices:
            if device.traits.in_main_memory:
                _add_worker(holders, self._meter.figures(device.device_id))
        ours = host.used_by_server.value or 0
        holders[MemoryHolder.SERVER] = max(0, ours - sum(holders.values()))
        return Reading(Place(), used, None, _with_others(holders, used))

    def _device(self, memory: DeviceMemory, device: Device) -> Reading | None:
        figures = self._meter.figures(memory.device_id)
        if memory.total.value is None or memory.free.value is None:
            return None
        used = memory.total.value - memory.free.value
        holders: _Holders = {}
        _add_worker(holders, figures)
        ours = memory.reserved.value or memory.allocated.value
        if ours is not None:
            holders[MemoryHolder.SERVER] = max(0, ours - sum(holders.values()))
        fragmentation = None if figures is None else fragmentation_of(figures)
        place = Place(memory.device_id)
        return Reading(place, used, fragmentation, _with_others(holders, used))


def fragmentation_of(figures: DeviceFigures) -> float | None:
    """The share of free memory outside the largest free block, 0 to 1; None if unknown.

    Where the largest block is unknown but not what the allocator keeps in split blocks that
    it cannot give back, it is their share: less than the truth, never more.
    """
    free, largest = figures.free.value, figures.largest_free.value
    if free and largest is not None:
        return min(max(1.0 - largest / free, 0.0), 1.0)
    split, reserved = figures.inactive_split.value, figures.reserved.value
    if free is None or split is None or reserved is None:
        return None
    within = free + max(0, reserved - (figures.allocated.value or 0))
    return min(split / within, 1.0) if within else None


def _add_worker(holders: _Holders, figures: DeviceFigures | None) -> None:
    if figures is None:
        return
    leased = MemoryHolder.ALLOCATIONS
    holders[leased] = holders.get(leased, 0) + figures.leased_bytes
    _add_models(holders, figures.models)


def _add_models(holders: _Holders, components: Iterable[LoadedComponent]) -> None:
    for part in components:
        holders[part.model_id] = holders.get(part.model_id, 0) + (part.size.value or 0)


def _with_others(holders: _Holders, used: int) -> _Holders:
    return holders | {MemoryHolder.OTHERS: max(0, used - sum(holders.values()))}
