"""The models that devices and main memory hold: which may be evicted, and evicting them."""

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
from domains.memory.ports import CachedModels, Leaving
from domains.memory.types import HeldComponent, Place
from domains.session.core.jobs import run_job
from domains.session.core.session import Session
from domains.values import EvictionCause


@dataclass(frozen=True)
class IdleModel:
    """A model that no work uses; `size_bytes` is what is known of its size. An empty
    `device_id` is main memory's cache."""

    device_id: str
    model_id: str
    size_bytes: int
    last_use_time: datetime


class HeldModels:
    """Knows the models in memory, and evicts some: cached ones before loaded ones.

    Args:
        devices: Knows the devices.
        runs: The devices' workers.
        cached: What main memory keeps to be loaded.
        leaving: Hears why a model leaves a device.
        evicted: Called with the place of each model that was evicted.
    """

    def __init__(
        self,
        devices: DeviceInventory,
        runs: DeviceRuns,
        cached: CachedModels,
        *,
        leaving: Leaving,
        evicted: Callable[[Place], None] = lambda place: None,
    ) -> None:
        self._devices = devices
        self._runs = runs
        self._cached = cached
        self._leaving = leaving
        self._evicted = evicted

    def held(self) -> tuple[HeldComponent, ...]:
        """Every component in a device's memory, as of its worker's last figures, and what
        main memory keeps."""
        cached = (HeldComponent("", component) for component in self._cached.components())
        loaded = (
            HeldComponent(device.device_id, component)
            for device in self._devices.devices
            if (figures := self._runs.figures(device.device_id)) is not None
            for component in figures.models
        )
        return (*cached, *loaded)

    def sharing(self, device_id: str) -> set[str]:
        """The devices whose models lie in the same memory as those of one; for main memory
        the cache, which is "", and every device that computes there."""
        main = {d.device_id for d in self._devices.devices if d.traits.in_main_memory} | {""}
        return main if device_id in main else {device_id}

    def idle(self, device_id: str) -> list[IdleModel]:
        """Models of a device's memory that nothing uses, in the order in which they are
        evicted: cached before loaded, least recently used first."""
        parts: dict[tuple[str, str], list[LoadedComponent]] = defaultdict(list)
        places = self.sharing(device_id)
        for one in self.held():
            if one.device_id in places:
                parts[one.device_id, one.component.model_id].append(one.component)
        models = [
            IdleModel(
                place,
                model_id,
                sum(part.size.value or 0 for part in components),
                max(part.last_use_time for part in components),
            )
            for (place, model_id), components in parts.items()
            if not any(part.in_use for part in components)
            and (place or not self._cached.pinned(model_id))
        ]
        return sorted(models, key=lambda model: (model.device_id != "", model.last_use_time))

    async def evict(
        self, model: IdleModel, cause: EvictionCause, *, remaining: float
    ) -> tuple[HeldComponent, ...]:
        """Evict a model; its memory is free when this returns what left it.

        Raises:
            Unavailable: The worker is lost or there is none.
            DeadlineExceeded: `remaining` seconds did not suffice.
        """
        if not model.device_id:
            return await self._uncache(model, cause)
        job, session_id = ReleaseJob((model.model_id,)), str(uuid.uuid4())
        events = self._runs.run(model.device_id, session_id, job, remaining=remaining)
        gone: tuple[HeldComponent, ...] = ()
        with self._leaving(model.model_id, model.device_id, cause):
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, ReleaseReport):
                        gone = self._left(model, event)
        return gone

    async def evict_in(self, session: Session, model: IdleModel) -> tuple[HeldComponent, ...]:
        """Evict a model as the client of a session asks; returns what left its memory.

        Raises:
            DomainError: What `run_job` raises.
        """
        cause = EvictionCause.REQUESTED
        if model.device_id != session.device_id:
            return await self.evict(model, cause, remaining=session.run_left())
        job = ReleaseJob((model.model_id,))
        with self._leaving(model.model_id, model.device_id, cause):
            return self._left(model, await run_job(self._runs, session, job))

    async def _uncache(
        self, model: IdleModel, cause: EvictionCause
    ) -> tuple[HeldComponent, ...]:
        kept = [one for one in self._cached.components() if one.model_id == model.model_id]
        if not await self._cached.evict(model.model_id, cause):
            return ()
        self._evicted(Place())
        return tuple(HeldComponent("", one) for one in kept)

    def _left(self, model: IdleModel, report: ReleaseReport) -> tuple[HeldComponent, ...]:
        if report.released:
            self._evicted(Place(model.device_id))
        return tuple(HeldComponent(model.device_id, part) for part in report.released)
