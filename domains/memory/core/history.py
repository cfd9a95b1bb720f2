"""The history of memory: read every second, kept in bounds, written to disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domains import checks
from domains.device.core import DeviceInventory
from domains.device.types import Device, DeviceFigures, DeviceMemory
from domains.limits import LIMITS
from domains.memory.core.analytics import History, summarise
from domains.memory.core.intervals import KEPT, Intervals, Reading
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.errors import InvalidMemoryRequest
from domains.memory.ports import DeviceMeter, HistoryStore
from domains.memory.types import HOST_PLACE, HostMemory, MemoryInterval, Place

LEASES, WORKERS, OTHERS = NO_MODELS = "leases", "workers", "others"
_WRITE_SECONDS = 5.0


class MemoryRecorder:
    """Reads memory into the history and tells of it.

    Someone calls `sample` every second. Belongs to one event loop.

    Args:
        monitor: Reads memory.
        meter: Tells device memory as the workers last did.
        devices: Knows the devices, and finds the one that a request names.
        store: Where the history outlives the server.
        host_leases: Bytes lent in main memory.
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
        now: Callable[[], float],
    ) -> None:
        self._monitor = monitor
        self._meter = meter
        self._devices = devices
        self._store = store
        self._host_leases = host_leases
        self._now = now
        self._intervals = Intervals()
        self._changed: dict[tuple[str, int, int], MemoryInterval] = {}
        self._written_at = 0.0

    def load(self) -> None:
        """Take up what an earlier server kept. May block: before `sample`, off the loop."""
        self._intervals = Intervals(self._store.history())

    async def sample(self) -> None:
        """Read memory now; every few seconds what is new goes to disk."""
        status = await self._monitor.known()
        now = self._now()
        readings = [self._host(status.host)]
        by_id = {device.device_id: device for device in self._devices.devices}
        for memory in status.devices:
            readings.append(self._device(memory, by_id[memory.device_id]))
        for reading in readings:
            if reading is not None:
                self._note(self._intervals.add(now, reading))
        if now - self._written_at >= _WRITE_SECONDS or now < self._written_at:
            self.write()

    def write(self) -> None:
        """Send what is new to disk; returns at once."""
        self._written_at = self._now()
        changed, self._changed = self._changed, {}
        self._store.write_history(tuple(changed.values()), keep=KEPT)

    def count_eviction(self, place: Place, models: int = 1) -> None:
        """Note that models were evicted from a place."""
        self._note(self._intervals.count(self._now(), _name(place), evictions=models))

    def count_out_of_memory(self, place: Place) -> None:
        """Note that something failed for want of memory."""
        self._note(self._intervals.count(self._now(), _name(place), out_of_memory=1))

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
        names = self._intervals.places
        if device:
            named = (
                device
                if device in names
                else (await self._devices.get(device)).device.device_id
            )
            names = tuple(name for name in names if name in (HOST_PLACE, named))
        now = self._now()
        ordered = sorted(names, key=lambda name: (name != HOST_PLACE, name))
        return tuple(
            summarise(
                _place(name),
                self._intervals.select(name, now - window, now),
                since=now - window,
                until=now,
                points=points,
            )
            for name in ordered
        )

    def _note(self, changed: Sequence[MemoryInterval]) -> None:
        for interval in changed:
            self._changed[interval.place, interval.resolution, interval.start] = interval

    def _host(self, host: HostMemory) -> Reading | None:
        if host.total.value is None or host.available.value is None:
            return None
        used = host.total.value - host.available.value
        owners: dict[str, int] = {LEASES: self._host_leases()}
        for device in self._devices.devices:
            if device.traits.in_main_memory:
                _add_worker(owners, self._meter.figures(device.device_id))
        ours = host.used_by_server.value or 0
        owners[WORKERS] = max(0, ours - sum(owners.values()))
        return Reading(HOST_PLACE, used, None, _with_others(owners, used))

    def _device(self, memory: DeviceMemory, device: Device) -> Reading | None:
        figures = self._meter.figures(memory.device_id)
        if memory.total.value is None or memory.free.value is None:
            return None
        used = memory.total.value - memory.free.value
        owners: dict[str, int] = {}
        _add_worker(owners, figures)
        ours = memory.reserved.value or memory.allocated.value
        if ours is not None:
            owners[WORKERS] = max(0, ours - sum(owners.values()))
        fragmentation = None if figures is None else fragmentation_of(figures)
        return Reading(memory.device_id, used, fragmentation, _with_others(owners, used))


def fragmentation_of(figures: DeviceFigures) -> float | None:
    """The share of free memory outside the largest free block, 0 to 1, where it is told.

    Where the allocator tells no largest block but what it keeps in split blocks that it
    cannot give back, it is their share: less than the truth, never more.
    """
    free, largest = figures.free.value, figures.largest_free.value
    if free and largest is not None:
        return min(max(1.0 - largest / free, 0.0), 1.0)
    split, reserved = figures.inactive_split.value, figures.reserved.value
    if free is None or split is None or reserved is None:
        return None
    within = free + max(0, reserved - (figures.allocated.value or 0))
    return min(split / within, 1.0) if within else None


def _add_worker(owners: dict[str, int], figures: DeviceFigures | None) -> None:
    if figures is None:
        return
    owners[LEASES] = owners.get(LEASES, 0) + figures.leased_bytes
    for part in figures.models:
        owners[part.model_id] = owners.get(part.model_id, 0) + (part.size.value or 0)


def _with_others(owners: dict[str, int], used: int) -> dict[str, int]:
    return owners | {OTHERS: max(0, used - sum(owners.values()))}


def _name(place: Place) -> str:
    return place.device_id or HOST_PLACE


def _place(name: str) -> Place:
    return Place() if name == HOST_PLACE else Place(name)
