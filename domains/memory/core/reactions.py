"""What happens under pressure: models are evicted, new work is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

from domains.errors import DeadlineExceeded, Unavailable
from domains.memory.core.models import HeldModels
from domains.memory.core.watch import PressureWatch
from domains.memory.errors import WorkRefused
from domains.memory.types import Place, PressureLevel
from domains.session.core.plan import SessionPlan
from domains.session.types import SessionKind

IDLE_SECONDS = 30.0
_EVICTION_SECONDS = 60.0
_FREEING = {SessionKind.MEMORY_TASK, SessionKind.DEVICE_TASK}


class PressureReactions:
    """Answers pressure; the order is that of the thresholds' reactions.

    Args:
        watch: Knows the pressure.
        models: Evicts models.
        clock: The wall clock, timezone-aware.
    """

    def __init__(
        self,
        watch: PressureWatch,
        models: HeldModels,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._watch = watch
        self._models = models
        self._clock = clock

    async def relieve(self) -> tuple[str, ...]:
        """Evict models as the pressure demands, now; returns their ids in order.

        At ELEVATED at most one per call, so that its effect is seen before the next one.
        A worker that is lost or busy gets another chance at the next call.
        """
        gone: list[str] = []
        for device_id in {held.device_id for held in self._models.held()}:
            level = self._watch.level(Place(device_id))
            if level.value < PressureLevel.ELEVATED.value:
                continue
            idle = self._models.idle(device_id)
            if level is PressureLevel.ELEVATED:
                latest = self._clock() - timedelta(seconds=IDLE_SECONDS)
                idle = [model for model in idle if model.last_use_time <= latest][:1]
            with contextlib.suppress(DeadlineExceeded, Unavailable):
                for model in idle:
                    await self._models.evict(model, remaining=_EVICTION_SECONDS)
                    gone.append(model.model_id)
        return tuple(gone)

    def check_work(self, plan: SessionPlan) -> None:
        """Refuse new work where memory is nearly gone; work that frees it is taken.

        Raises:
            WorkRefused: Pressure is CRITICAL in main memory or on the work's device.
        """
        if plan.kind in _FREEING:
            return
        for pressure in self._watch.pressures():
            concerned = pressure.place.device_id in ("", plan.device_id)
            if concerned and pressure.level is PressureLevel.CRITICAL:
                raise WorkRefused(pressure.place, pressure.used_share)
