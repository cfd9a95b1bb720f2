"""One model everywhere: on disk, in main memory, on each device, at one moment."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from domains.device.types import LoadedComponent
from domains.memory.types import Extent, HeldComponent, Place
from domains.model.core.cache import ModelCache
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.estimates import Estimates
from domains.model.core.use import ModelUse
from domains.model.ports import Machine
from domains.model.types import ModelOnDevice, ModelStatus

_MOST_SESSIONS = 64
_MOST_MEASUREMENTS = 8


class ModelStatuses:
    """Says where a model is and what it needs.

    Args:
        catalogue: Finds it.
        cache: Knows whether main memory has it.
        machine: The devices and what lies there.
        use: Knows who uses it.
        estimates: Knows what it needs.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        cache: ModelCache,
        machine: Callable[[], Machine],
        use: ModelUse,
        estimates: Estimates,
    ) -> None:
        self._catalogue = catalogue
        self._cache = cache
        self._machine = machine
        self._use = use
        self._estimates = estimates

    async def status(self, model_id: str) -> ModelStatus:
        """The model everywhere; empty means the default one.

        Raises:
            DomainError: What the catalogue raises for an id.
        """
        model = await self._catalogue.get(model_id)
        machine = self._machine()
        extents = await self._extents(machine)
        # Nothing takes time from here on: what follows is of one moment.
        model = await self._catalogue.get(model.model_id)
        held = tuple(
            self._as_used(one)
            for one in machine.models.held()
            if one.component.model_id == model.model_id
        )
        by_device: dict[str, list[LoadedComponent]] = defaultdict(list)
        for one in held:
            if not one.device_id:
                continue  # in main memory, to be loaded
            by_device[one.device_id].append(one.component)
        return ModelStatus(
            model,
            self._cache.find(model.model_id),
            tuple(
                self._loaded(model.model_id, device_id, tuple(parts))
                for device_id, parts in by_device.items()
            ),
            held,
            tuple(
                self._estimates.at(model, device, machine, extents[device.device_id]).estimate
                for device in machine.devices.devices
                if machine.devices.works(device)
            ),
        )

    async def _extents(self, machine: Machine) -> Mapping[str, Extent]:
        """How much memory each device has, measured while nothing came to a device or left it.

        Where something does again and again, the last measurement counts, and of a device that
        came meanwhile nothing is known.
        """
        extents: dict[str, Extent] = {}
        for _ in range(_MOST_MEASUREMENTS):
            before = _held(machine)
            ids = [device.device_id for device in machine.devices.devices]
            found = await asyncio.gather(*(machine.memory.extent(Place(one)) for one in ids))
            extents = dict(zip(ids, found, strict=True))
            if _held(machine) == before:
                break
        return defaultdict(lambda: Extent(None, None), extents)

    def _as_used(self, one: HeldComponent) -> HeldComponent:
        """A component as sessions use it now: a worker's figures are older than its work."""
        if not one.device_id or not self._use.running(one.component.model_id, one.device_id):
            return one
        return HeldComponent(one.device_id, replace(one.component, in_use=True))

    def _loaded(
        self, model_id: str, device_id: str, parts: tuple[LoadedComponent, ...]
    ) -> ModelOnDevice:
        users = self._use.running(model_id, device_id)
        return ModelOnDevice(
            model_id,
            device_id,
            parts,
            parts[0].origin,
            parts[0].load_time,
            tuple(session.session_id for session in users[:_MOST_SESSIONS]),
        )


def _held(machine: Machine) -> object:
    """What the memory that is free depends on, of what is known without measuring."""
    return (
        tuple((device.device_id, device.lost) for device in machine.devices.devices),
        tuple(
            (one.device_id, one.component.model_id, one.component.size, one.component.in_use)
            for one in machine.models.held()
        ),
    )
