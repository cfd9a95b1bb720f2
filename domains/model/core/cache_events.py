"""What watchers are told of the cache."""

from __future__ import annotations

from domains.model.core.contents import CatalogueContents
from domains.model.types import Model
from domains.model.views import ModelEvent, ModelEventKind
from domains.values import EvictionCause


class CacheEvents:
    """Tells what came into main memory and what left it.

    Args:
        contents: The models, and who watches them.
    """

    def __init__(self, contents: CatalogueContents) -> None:
        self._contents = contents
        self._cached: dict[str, Model] = {}  # as they were when they came
        contents.changes.add_state(self._state)

    def tell(self, model_id: str, cause: EvictionCause | None) -> None:
        """A model is cached now; or it was evicted, and why."""
        known = self._cached.pop(model_id, None)
        model = self._contents.now().get(model_id, known)
        if model is None:
            return  # It went from disk while it was read.
        if cause is None:
            self._cached[model_id] = model
            self._contents.changes.record(ModelEvent(ModelEventKind.CACHED, model))
        else:
            event = ModelEvent(ModelEventKind.EVICTED, model, cause=cause)
            self._contents.changes.record(event)

    def _state(self) -> list[ModelEvent]:
        now = self._contents.now()
        return [
            ModelEvent(ModelEventKind.CACHED, now.get(model_id, model))
            for model_id, model in self._cached.items()
        ]
