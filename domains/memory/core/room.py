"""Whether there is room for a lease, and who gives way when there is not."""

from __future__ import annotations

from collections.abc import Callable

from domains.errors import DeadlineExceeded, Unavailable
from domains.memory.core.models import IdleModel, idle_models, release
from domains.memory.core.monitor import MAIN_MEMORY, MemoryMonitor
from domains.memory.core.watch import PressureWatch
from domains.memory.errors import OutOfMemory
from domains.memory.ports import ModelMemory
from domains.memory.types import Extent, Place, PressureLevel

_RELEASE_SECONDS = 10.0


class Room:
    """Says whether bytes fit; idle models give way when that makes them fit.

    Of main memory the share beyond the CRITICAL threshold is never lent: the system, the
    workers and what runs need it. Of a device everything is.

    Args:
        monitor: Reads memory.
        watch: Knows the pressure and the thresholds.
        models: Lets models go.
    """

    def __init__(
        self, monitor: MemoryMonitor, watch: PressureWatch, models: ModelMemory
    ) -> None:
        self._monitor = monitor
        self._watch = watch
        self._models = models
        critical = (t for t in watch.thresholds if t.level is PressureLevel.CRITICAL)
        self._spared_share = 1.0 - next(critical).enter

    async def make(self, place: Place, size: int, taken: Callable[[], int]) -> None:
        """Return when `size` bytes fit in a place, letting idle models go if need be.

        Models go least recently used first and only as many as are needed; when all of
        them would not suffice, none goes.

        Args:
            place: Where.
            size: Bytes wanted.
            taken: Bytes that others are taking there just now, not seen in figures yet.

        Raises:
            OutOfMemory: They do not fit, or pressure there is HIGH.
        """
        level = self._watch.level(place)
        if level.value >= PressureLevel.HIGH.value:
            free = await self._lendable(place)
            raise OutOfMemory(place, size, free, self._evictable(place), pressure=level)
        idle = self._idle(place)
        free = await self._lendable(place)
        if free is None:
            return  # Nobody tells: taking it will show.
        free -= taken()
        if size > free + sum(model.size_bytes for model in idle):
            raise OutOfMemory(place, size, free, self._evictable(place))
        while size > free and idle:
            try:
                await release(self._models, idle.pop(0), remaining=_RELEASE_SECONDS)
            except (DeadlineExceeded, Unavailable):
                continue  # It is in use again, or gone with its worker.
            free = (await self._lendable(place) or 0) - taken()
        if size > free:
            raise OutOfMemory(place, size, free, self._evictable(place))

    def refused(self, place: Place, size: int, free: int | None) -> OutOfMemory:
        """What a client is told when the memory itself refused."""
        return OutOfMemory(place, size, free, self._evictable(place))

    async def _lendable(self, place: Place) -> int | None:
        extent: Extent = await self._monitor.extent(place)
        if extent.free is None:
            return None
        if self._monitor.pool(place) != MAIN_MEMORY:
            return extent.free
        return max(0, extent.free - int(self._spared_share * (extent.total or 0)))

    def _idle(self, place: Place) -> list[IdleModel]:
        pool = self._monitor.pool(place)
        held = self._models.held()
        devices = {one.device_id for one in held}
        there = [d for d in devices if self._monitor.pool(Place(d)) == pool]
        models = [model for device_id in there for model in idle_models(held, device_id)]
        return sorted(models, key=lambda model: model.last_use_time)

    def _evictable(self, place: Place) -> dict[str, int]:
        return {model.model_id: model.size_bytes for model in self._idle(place)}
