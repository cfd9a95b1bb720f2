"""Advice about memory: what the rules of `recommendations` look at, gathered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from domains.device.types import OptimizationProfile
from domains.memory.core.models import HeldModels
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.core.recommendations import PlaceFacts, Recommendation, recommend
from domains.memory.core.recorder import MemoryRecorder

_LOOK_BACK_SECONDS = 3600.0


class MemoryAdviser:
    """Gathers what the rules look at.

    Args:
        recorder: The history; the last hour of it counts.
        monitor: Reads memory now.
        models: Knows what devices hold.
        half_precision: Whether a device was measured to compute right in 16 bits.
        profile: What a device runs with.
        clock: The wall clock, timezone-aware.
    """

    def __init__(
        self,
        recorder: MemoryRecorder,
        monitor: MemoryMonitor,
        models: HeldModels,
        *,
        half_precision: Callable[[str], bool],
        profile: Callable[[str], OptimizationProfile],
        clock: Callable[[], datetime],
    ) -> None:
        self._recorder = recorder
        self._monitor = monitor
        self._models = models
        self._half_precision = half_precision
        self._profile = profile
        self._clock = clock

    async def recommendations(self, device: str = "") -> tuple[Recommendation, ...]:
        """Advice for main memory and `device`, an id or alias; empty means everywhere.

        Raises:
            DeviceNotFound: There is no such device.
        """
        histories = await self._recorder.analytics(device, window=_LOOK_BACK_SECONDS)
        facts = []
        for history in histories:
            device_id = history.place.device_id
            extent = await self._monitor.extent(history.place)
            if extent.total is None or extent.free is None:
                continue  # The device is gone, or its worker has sent no figures yet.
            held = self._models.held()
            facts.append(
                PlaceFacts(
                    history,
                    extent.total,
                    extent.free,
                    self._clock(),
                    models=tuple(one.component for one in held if one.device_id == device_id),
                    half_precision=bool(device_id) and self._half_precision(device_id),
                    tiled=bool(device_id)
                    and self._profile(device_id) is OptimizationProfile.LOW_MEMORY,
                )
            )
        return recommend(facts)
