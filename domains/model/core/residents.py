"""Which models lie on devices, as their workers tell, and what watchers are told of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from domains.device.types import DeviceState, WorkerStatus
from domains.model.core.contents import CatalogueContents
from domains.model.types import Model
from domains.model.views import ModelEvent, ModelEventKind
from domains.values import EvictionCause

Resident = tuple[str, str]
"""A device's id and that of a model that lies there, in whole or in part."""


class Residents:
    """Compares what lies on devices with what lay there before, and tells the difference.

    Args:
        contents: The models.
        held: What workers hold now, as far as they told.
    """

    def __init__(
        self, contents: CatalogueContents, held: Callable[[], Iterable[Resident]]
    ) -> None:
        self._contents = contents
        self._held = held
        self._known: dict[Resident, Model] = {}
        self._causes: dict[Resident, EvictionCause] = {}
        self._over: set[Resident] = set()
        self._lost: set[str] = set()
        contents.changes.add_state(self._state)

    @contextmanager
    def leaving(self, model_id: str, device_id: str, cause: EvictionCause) -> Iterator[None]:
        """While this lasts a model that leaves a device does so for this cause, which only
        whoever takes it off knows."""
        resident = (device_id, model_id)
        self._causes[resident] = cause
        self._over.discard(resident)
        try:
            yield
        finally:
            # The next look sees whether it left; what comes later has causes of its own.
            self._over.add(resident)

    def worker_changed(self, device_id: str, status: WorkerStatus) -> None:
        """A device's worker is in another state: with a worker goes what it held, and that is
        told before anything that was under way there ends."""
        if status.state is not DeviceState.READY:
            self._lost.add(device_id)
            there = {each for each in self._known if each[0] == device_id}
            self._tell_gone(there.difference(self._held()))

    async def look(self) -> None:
        """Tell what came and what left. To be called again and again."""
        known = await self._contents.known()
        held = set(self._held())
        self._tell_gone(self._known.keys() - held)
        for resident in held - self._known.keys():
            # One that has gone from disk can still be held, and is no model any more.
            if (found := known.get(resident[1])) is not None:
                self._known[resident] = found
                self._tell(ModelEventKind.LOADED, found, resident)
        for resident in self._over:
            self._causes.pop(resident, None)
        self._over.clear()
        self._lost.clear()

    def _tell_gone(self, residents: Iterable[Resident]) -> None:
        for resident in residents:
            model = self._known.pop(resident)
            self._tell(ModelEventKind.UNLOADED, model, resident, self._why(resident, model))

    def _why(self, resident: Resident, model: Model) -> EvictionCause:
        device_id, model_id = resident
        if resident in self._causes:
            return self._causes[resident]
        if device_id in self._lost:
            return EvictionCause.WORKER_LOST
        now = self._contents.now().get(model_id)
        if now is None or now.weights != model.weights:
            return EvictionCause.FILE_CHANGED
        return EvictionCause.ROOM

    def _tell(
        self,
        kind: ModelEventKind,
        model: Model,
        resident: Resident,
        cause: EvictionCause | None = None,
    ) -> None:
        device_id, model_id = resident
        now = self._contents.now().get(model_id, model)
        self._contents.changes.record(ModelEvent(kind, now, device_id, cause))

    def _state(self) -> list[ModelEvent]:
        now = self._contents.now()
        return [
            ModelEvent(ModelEventKind.LOADED, now.get(model.model_id, model), device_id)
            for (device_id, _), model in self._known.items()
        ]
