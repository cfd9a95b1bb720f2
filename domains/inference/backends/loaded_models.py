"""The models that lie on one device, and which of them gives way first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from domains.device.types import LoadedComponent
from domains.inference.backends.device import release_memory
from domains.inference.backends.loaded import Loaded
from domains.inference.backends.loaded_model import LoadedModel
from domains.model.types import ModelType
from domains.values import ModelPlace

# Their components have to fit into a worker's figures (`domains.device.types.Components`).
MOST_MODELS = 16


class LoadedModels:
    """Models on one device, the least recently used first. For the main thread alone.

    Work may need several at once: what it claimed does not make room until the work ends.
    """

    def __init__(self) -> None:
        self._models: list[Loaded] = []
        self._claimed: set[ModelPlace] = set()

    def __iter__(self) -> Iterator[Loaded]:
        """The least recently used first; they may be let go meanwhile."""
        return iter(tuple(self._models))

    def __len__(self) -> int:
        return len(self._models)

    @property
    def newest(self) -> LoadedModel | None:
        """The one used last of those that draw."""
        whole = (one for one in reversed(self._models) if isinstance(one, LoadedModel))
        return next((one for one in whole if one.plan.type is ModelType.CHECKPOINT), None)

    def at(self, place: ModelPlace) -> Loaded | None:
        """What was loaded from that place."""
        return next((model for model in self._models if model.place == place), None)

    def use(self, model: Loaded) -> None:
        """It is used now; one that is new here is added."""
        self._models = [one for one in self._models if one is not model] + [model]
        model.last_use = datetime.now(UTC)

    def claim(self, place: ModelPlace) -> None:
        """Work needs what lies there until it ends; by its place, so that a claim holds on to
        no memory."""
        self._claimed.add(place)

    def unclaim(self, place: ModelPlace) -> None:
        """What lies there may make room for another version of itself."""
        self._claimed.discard(place)

    def is_claimed(self, model: Loaded) -> bool:
        """Whether work needs it."""
        return model.place in self._claimed

    def end_work(self) -> None:
        """Nothing is claimed any more; what was is used now."""
        for model in self:
            if self.is_claimed(model):
                self.use(model)
        self._claimed.clear()

    def let_go(self, chosen: Callable[[Loaded], bool]) -> None:
        """Let the chosen ones go; their memory is free once nobody else holds on to them."""
        gone = [model.device for model in self._models if chosen(model)]
        self._models = [model for model in self._models if not chosen(model)]
        if gone:
            release_memory(gone[0])

    def let_go_until(self, enough: Callable[[], bool]) -> None:
        """Let models that no work needs go, the least recently used first, until there is
        enough room.

        Args:
            enough: Asked again after each that went.
        """
        while not enough():
            victim = next((one for one in self._models if not self.is_claimed(one)), None)
            if victim is None:
                return
            self._models.remove(victim)
            device = victim.device
            del victim
            release_memory(device)

    def components(self) -> tuple[LoadedComponent, ...]:
        """The networks of all of them, those of the one used last first."""
        return tuple(part for model in reversed(self._models) for part in model.components())
