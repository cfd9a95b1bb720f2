"""Whether there is room for a lease, and which models are evicted when there is not."""

from __future__ import annotations

from collections.abc import Callable

from domains.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from domains.memory.core.models import HeldModels, IdleModel
from domains.memory.core.monitor import MAIN_MEMORY, MemoryMonitor
from domains.memory.core.watch import PressureWatch
from domains.memory.errors import OutOfMemory
from domains.memory.types import Place, PressureLevel
from domains.values import EvictionCause

_EVICTION_SECONDS = 10.0


class Headroom:
    """Says whether bytes fit; idle models are evicted when that makes them fit.

    Of main memory the share beyond the CRITICAL threshold is never given to clients: the
    system, the workers and what runs need it. Of a device everything is.

    Args:
        monitor: Reads memory.
        watch: Knows the pressure and the thresholds.
        models: Evicts models.
    """

    def __init__(
        self, monitor: MemoryMonitor, watch: PressureWatch, models: HeldModels
    ) -> None:
        self._monitor = monitor
        self._watch = watch
        self._models = models
        critical = (t for t in watch.thresholds if t.level is PressureLevel.CRITICAL)
        self._spared_share = 1.0 - next(critical).enter

    async def make(self, place: Place, size: int, taken: Callable[[], int]) -> None:
        """Return when `size` bytes fit in a place, evicting idle models if need be.

        Least recently used first and no more than needed; when evicting all of them would
        not suffice, none is.

        Args:
            place: Where.
            size: Bytes wanted.
            taken: Bytes that others are taking there just now, not seen in figures yet.

        Raises:
            OutOfMemory: They do not fit, or pressure there is HIGH.
        """
        level = self._watch.level(place)
        if level.value >= PressureLevel.HIGH.value:
            free = await self._free(place)
            raise OutOfMemory(place, size, free, self._evictable(place), pressure=level)
        idle = self._idle(place)
        free = await self._free(place)
        if free is None:
            return  # It is unknown: taking it will show.
        free -= taken()
        if size > free + sum(model.size_bytes for model in idle):
            raise OutOfMemory(place, size, free, self._evictable(place))
        while size > free and idle:
            try:
                await self._models.evict(
                    idle.pop(0), EvictionCause.ROOM, remaining=_EVICTION_SECONDS
                )
            except (DeadlineExceeded, Unavailable):
                continue  # It is in use again, or gone with its worker.
            free = (await self._free(place) or 0) - taken()
        if size > free:
            raise OutOfMemory(place, size, free, self._evictable(place))

    async def total(self, place: Place) -> int | None:
        """Bytes of the memory behind a place; None where it is unknown."""
        return (await self._monitor.extent(place)).total

    async def refusal(self, place: Place, size: int, error: ResourceExhausted) -> OutOfMemory:
        """The error for a client when the memory itself refused with `error`."""
        stated = error.metadata.get("free_bytes", "")
        free = int(stated) if stated.isdigit() else (await self._monitor.extent(place)).free
        return OutOfMemory(place, size, free, self._evictable(place))

    async def _free(self, place: Place) -> int | None:
        """What of a place could be given to clients."""
        extent = await self._monitor.extent(place)
        if extent.free is None:
            return None
        if self._monitor.pool(place) != MAIN_MEMORY:
            return extent.free
        return max(0, extent.free - int(self._spared_share * (extent.total or 0)))

    def _idle(self, place: Place) -> list[IdleModel]:
        return self._models.idle(place.device_id)

    def _evictable(self, place: Place) -> dict[str, int]:
        return {model.model_id: model.size_bytes for model in self._idle(place)}
