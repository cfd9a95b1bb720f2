"""The models that lie on one device, and which of them gives way first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from domains.device.types import LoadedComponent
from domains.inference.backends.device import release_memory
from domains.inference.backends.loaded_model import LoadedModel
from domains.values import ModelPlace

# Their components have to fit into a worker's figures (`domains.device.types.Components`).
MOST_MODELS = 16


class LoadedModels:
    """Models on one device, the least recently used first. For the main thread alone."""

    def __init__(self) -> None:
        self._models: list[LoadedModel] = []

    def __iter__(self) -> Iterator[LoadedModel]:
        """The least recently used first; they may be let go meanwhile."""
        return iter(tuple(self._models))

    def __len__(self) -> int:
        return len(self._models)

    @property
    def newest(self) -> LoadedModel | None:
        """The one used last."""
        return self._models[-1] if self._models else None

    def at(self, place: ModelPlace) -> LoadedModel | None:
        """What was loaded from that place."""
        return next((model for model in self._models if model.place == place), None)

    def use(self, model: LoadedModel) -> None:
        """It is used now; one that is new here is added."""
        self._models = [one for one in self._models if one is not model] + [model]
        model.last_use = datetime.now(UTC)

    def let_go(self, chosen: Callable[[LoadedModel], bool]) -> None:
        """Let the chosen ones go; their memory is free once nobody else holds on to them."""
        gone = [model.device for model in self._models if chosen(model)]
        self._models = [model for model in self._models if not chosen(model)]
        if gone:
            release_memory(gone[0])

    def let_go_until(
        self, enough: Callable[[], bool], *, keep: LoadedModel | None = None
    ) -> None:
        """Let models go, the least recently used first, until there is enough room.

        Args:
            enough: Asked again after each that went.
            keep: Stays whatever happens.
        """
        while not enough():
            victim = next((one for one in self._models if one is not keep), None)
            if victim is None:
                return
            self._models.remove(victim)
            device = victim.device
            del victim
            release_memory(device)

    def components(self) -> tuple[LoadedComponent, ...]:
        """The networks of all of them, those of the one used last first."""
        return tuple(part for model in reversed(self._models) for part in model.components())
