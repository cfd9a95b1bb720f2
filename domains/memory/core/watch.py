"""Watching memory: readings at an interval, and the pressure that follows from them."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime

from domains import checks
from domains.changes import HEARTBEAT_SECONDS
from domains.device.core import DeviceInventory
from domains.limits import LIMITS
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.core.pressure import next_level
from domains.memory.errors import InvalidMemoryRequest
from domains.memory.types import (
    Heartbeat,
    MemoryStatus,
    Place,
    Pressure,
    PressureLevel,
    Threshold,
)
from domains.values import ByteFigure

_SHARED_SECONDS = float(LIMITS["WatchMemoryRequest.interval"].minimum or 0) * 0.9
_MOST_READINGS_PER_SECOND = 1_000
"""That go out to all watches together."""


class PressureWatch:
    """Keeps every place's pressure, and follows its changes.

    Someone calls `sample` again and again; places whose used share is unknown have no
    pressure.

    Args:
        monitor: Reads memory.
        devices: Finds the device that a request names.
        thresholds: Where levels begin and end.
        now: The wall clock, timezone-aware.
        heartbeat_seconds: Silence after which a stream has a heartbeat.
    """

    def __init__(
        self,
        monitor: MemoryMonitor,
        devices: DeviceInventory,
        thresholds: Sequence[Threshold],
        *,
        now: Callable[[], datetime],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._now = now
        self.heartbeat_seconds = heartbeat_seconds
        self._monitor = monitor
        self._devices = devices
        self.thresholds = tuple(thresholds)
        self._pressures: dict[Place, Pressure] = {}
        self._listeners: list[Callable[[Pressure], None]] = []
        self._readings: dict[str, tuple[float, asyncio.Task[MemoryStatus]]] = {}

    async def sample(self) -> None:
        """Read memory now; streams learn what changed."""
        self._take(await self._monitor.known())

    def pressures(self) -> tuple[Pressure, ...]:
        """Every place's pressure as of the last sample."""
        return tuple(self._pressures.values())

    def level(self, place: Place) -> PressureLevel:
        """A place's level as of the last sample; NORMAL where it is not known."""
        known = self._pressures.get(Place(place.device_id))
        return PressureLevel.NORMAL if known is None else known.level

    async def ask(self, device: str = "") -> tuple[Pressure, ...]:
        """The pressure now of main memory and of `device`, an id or alias; empty: of all.

        Raises:
            DeviceNotFound: There is no such device.
        """
        wanted = await self._wanted(device)
        await self.sample()
        return tuple(p for p in self.pressures() if wanted(p.place))

    async def stream(
        self, device: str = "", *, interval: float = 1.0, pressure_only: bool = False
    ) -> AsyncGenerator[MemoryStatus | Pressure | Heartbeat]:
        """Pressure at the start and at each change, figures every `interval` seconds.

        A heartbeat comes where nothing else came for a while.

        A reader that is slow gets the latest change of each place, not all of them. Memory
        is read once for all who want to know at the same time; with very many of them each
        gets figures more rarely.

        Raises:
            DeviceNotFound: There is no such device.
            InvalidMemoryRequest: FIELD_OUT_OF_RANGE for the interval.
        """
        broken = checks.number("interval", interval, LIMITS["WatchMemoryRequest.interval"])
        if broken is not None:
            raise InvalidMemoryRequest.of(broken)
        if device:  # what an alias means may change; the watch stays with its device
            device = (await self._devices.get(device)).device.device_id
        wanted = await self._wanted(device)
        news: dict[Place, Pressure] = {}
        wake = asyncio.Event()

        def listen(pressure: Pressure) -> None:
            if wanted(pressure.place):
                news[pressure.place] = pressure
                wake.set()

        self._listeners.append(listen)
        try:
            begun_with = await self.ask(device)
            news.clear()  # what changes from here on is told after it
            for pressure in begun_with:
                yield pressure
            loop = asyncio.get_running_loop()
            due = math.inf if pressure_only else loop.time()
            silent = loop.time() + self.heartbeat_seconds
            while True:
                wake.clear()
                sent = loop.time() >= silent and not news and loop.time() < due
                if sent:
                    yield Heartbeat(self._now())
                while news:
                    sent = True
                    yield news.pop(next(iter(news)))
                if loop.time() >= due:
                    sent = True
                    yield await self._reading(device)
                    pace = max(interval, len(self._listeners) / _MOST_READINGS_PER_SECOND)
                    due = max(due + pace, loop.time())
                if sent:
                    silent = loop.time() + self.heartbeat_seconds
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(due, silent)):
                        await wake.wait()
        finally:
            self._listeners.remove(listen)

    async def _reading(self, device: str) -> MemoryStatus:
        """Memory as it is now, or was a moment ago for somebody else."""
        now = asyncio.get_running_loop().time()
        when, reading = self._readings.get(device, (0.0, None))
        if reading is None or now - when >= _SHARED_SECONDS:
            reading = asyncio.create_task(self._monitor.status(device))
            kept = {d: r for d, r in self._readings.items() if now - r[0] < _SHARED_SECONDS}
            self._readings = {**kept, device: (now, reading)}
        # A watch that ends does not end what others wait for.
        return await asyncio.shield(reading)

    async def _wanted(self, device: str) -> Callable[[Place], bool]:
        if not device:
            return lambda place: True
        device_id = (await self._devices.get(device)).device.device_id
        return lambda place: place.device_id in ("", device_id)

    def _take(self, status: MemoryStatus) -> None:
        shares = {Place(): _share(status.host.total, status.host.available)}
        for memory in status.devices:
            shares[Place(memory.device_id)] = _share(memory.total, memory.free)
        for place in [known for known in self._pressures if shares.get(known) is None]:
            del self._pressures[place]
        for place, share in shares.items():
            if share is None:
                continue
            before = self._pressures.get(place)
            was = PressureLevel.NORMAL if before is None else before.level
            level = next_level(was, share, self.thresholds)
            changed = before is None or level is not was
            since = status.read_time if changed or before is None else before.since_time
            self._pressures[place] = now = Pressure(place, level, share, since)
            if changed:
                for listener in tuple(self._listeners):
                    listener(now)


def _share(total: ByteFigure, free: ByteFigure) -> float | None:
    """Used share from 0 to 1; None when it is not known."""
    if not total.value or free.value is None:
        return None
    return min(max(1.0 - free.value / total.value, 0.0), 1.0)
