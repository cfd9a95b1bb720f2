"""What happens under pressure: models are evicted, new work is refused."""

from __future__ import annotations

import contextlib
from datetime import datetime

from domains.clock import Clock
from domains.errors import DeadlineExceeded, Unavailable
from domains.memory.core.errands import Errands
from domains.memory.core.models import HeldModels, IdleModel
from domains.memory.core.watch import PressureWatch
from domains.memory.errors import WorkRefused
from domains.memory.types import Place, PressureLevel
from domains.session.core.plan import SessionPlan
from domains.session.core.session import Session
from domains.session.types import SessionKind
from domains.values import EvictionCause

IDLE_SECONDS = 30.0
_EVICTION_SECONDS = 60.0
_FREEING = {SessionKind.MEMORY_TASK, SessionKind.DEVICE_TASK}


class PressureReactions:
    """Answers pressure; the order is that of the thresholds' reactions.

    Args:
        watch: Knows the pressure.
        models: Evicts models.
        clock: The time.
    """

    def __init__(
        self,
        watch: PressureWatch,
        models: HeldModels,
        *,
        clock: Clock,
    ) -> None:
        self._watch = watch
        self._models = models
        self._clock = clock
        # When a model was last used, as it says itself and on the clock that measures.
        self._uses: dict[tuple[str, str], tuple[datetime, float]] = {}
        self._relieving: Errands[list[str]] = Errands()  # by a device of the memory

    async def relieve(self) -> tuple[str, ...]:
        """Evict models as the pressure demands, now; returns their ids in order.

        At ELEVATED at most one of each memory per call, so that its effect is seen before
        the next one. A worker that is lost gets another chance at the next call; one that is
        busy is waited for beside it, and keeps no other memory from being relieved.
        """
        for device_id in self._memories():
            if not self._models.sharing(device_id).intersection(self._relieving.under_way):
                self._relieving.begin(device_id, self._relieve(device_id))
        gone = await self._relieving.ended()
        return tuple(model_id for ids in gone for model_id in ids)

    async def _relieve(self, device_id: str) -> list[str]:
        gone: list[str] = []
        level = self._watch.level(Place(device_id))
        if level.value < PressureLevel.ELEVATED.value:
            return gone
        idle = self._models.idle(device_id)
        if level is PressureLevel.ELEVATED:
            idle = [model for model in idle if self._unused(model) >= IDLE_SECONDS][:1]
        with contextlib.suppress(DeadlineExceeded, Unavailable):
            for model in idle:
                await self._models.evict(
                    model, EvictionCause.PRESSURE, remaining=_EVICTION_SECONDS
                )
                gone.append(model.model_id)
        return gone

    def _memories(self) -> list[str]:
        """One device of each memory that holds models."""
        found: list[str] = []
        for device_id in sorted({held.device_id for held in self._models.held()}):
            if not self._models.sharing(device_id).intersection(found):
                found.append(device_id)
        return found

    def _unused(self, model: IdleModel) -> float:
        """Seconds since its last use: by the wall clock once, then by the one that measures."""
        key, now = (model.device_id, model.model_id), self._clock.monotonic()
        said, when = self._uses.get(key, (None, 0.0))
        if said != model.last_use_time:
            age = (self._clock.wall() - model.last_use_time).total_seconds()
            when = now - max(age, 0.0)
            self._uses[key] = (model.last_use_time, when)
        return now - when

    def check_work(self, work: SessionPlan | Session) -> None:
        """Refuse new work where memory is nearly gone, and have waiting work wait; what frees
        memory is taken.

        Raises:
            WorkRefused: Pressure is CRITICAL in main memory or on the work's device.
        """
        if work.kind in _FREEING:
            return
        for pressure in self._watch.pressures():
            concerned = pressure.place.device_id in ("", work.device_id)
            if concerned and pressure.level is PressureLevel.CRITICAL:
                raise WorkRefused(pressure.place, pressure.used_share)
