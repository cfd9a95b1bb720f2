"""The models that the devices' workers hold: which may be evicted, and evicting them."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from domains.device.core import DeviceInventory
from domains.device.jobs import ReleaseJob, ReleaseReport
from domains.device.ports import DeviceRuns
from domains.device.types import LoadedComponent
from domains.memory.types import HeldComponent, Place
from domains.session.core.jobs import run_job
from domains.session.core.session import Session


@dataclass(frozen=True)
class IdleModel:
    """A model on a device that no work uses; `size_bytes` is what is known of its size."""

    device_id: str
    model_id: str
    size_bytes: int
    last_use_time: datetime


class HeldModels:
    """Knows the models in the devices' memory, and evicts some.

    Args:
        devices: Knows the devices.
        runs: The devices' workers.
        evicted: Called with the place of each model that was evicted.
    """

    def __init__(
        self,
        devices: DeviceInventory,
        runs: DeviceRuns,
        *,
        evicted: Callable[[Place], None] = lambda place: None,
    ) -> None:
        self._devices = devices
        self._runs = runs
        self._evicted = evicted

    def held(self) -> tuple[HeldComponent, ...]:
        """Every component in a device's memory, as of its worker's last figures."""
        return tuple(
            HeldComponent(device.device_id, component)
            for device in self._devices.devices
            if (figures := self._runs.figures(device.device_id)) is not None
            for component in figures.models
        )

    def idle(self, device_id: str) -> list[IdleModel]:
        """Models of a device of which no component is used, least recently used first."""
        parts: dict[str, list[LoadedComponent]] = defaultdict(list)
        for one in self.held():
            if one.device_id == device_id:
                parts[one.component.model_id].append(one.component)
        models = [
            IdleModel(
                device_id,
                model_id,
                sum(part.size.value or 0 for part in components),
                max(part.last_use_time for part in components),
            )
            for model_id, components in parts.items()
            if not any(part.in_use for part in components)
        ]
        return sorted(models, key=lambda model: model.last_use_time)

    async def evict(self, model: IdleModel, *, remaining: float) -> None:
        """Evict a model; its memory is free when this returns.

        Raises:
            Unavailable: The worker is lost or there is none.
            DeadlineExceeded: `remaining` seconds did not suffice.
        """
        job, session_id = ReleaseJob((model.model_id,)), str(uuid.uuid4())
        events = self._runs.run(model.device_id, session_id, job, remaining=remaining)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, ReleaseReport):
                    self._left(model, event)

    async def evict_in(self, session: Session, model: IdleModel) -> tuple[HeldComponent, ...]:
        """Evict a model as part of a session; returns what left the device.

        Raises:
            DomainError: What `run_job` raises.
        """
        job = ReleaseJob((model.model_id,))
        return self._left(model, await run_job(self._runs, session, job))

    def _left(self, model: IdleModel, report: ReleaseReport) -> tuple[HeldComponent, ...]:
        if report.released:
            self._evicted(Place(model.device_id))
        return tuple(HeldComponent(model.device_id, part) for part in report.released)
