"""Cached models as memory's upkeep sees them."""

from __future__ import annotations

from domains.device.types import LoadedComponent
from domains.model.core.cache import ModelCache
from domains.model.errors import CachedModelInUse
from domains.values import ByteFigure, EvictionCause

_SOURCE = "pages of the cache that hold its files"


class CachedResidents:
    """See the port `CachedModels` of the memory domain.

    Args:
        cache: The cache.
    """

    def __init__(self, cache: ModelCache) -> None:
        self._cache = cache

    def components(self) -> tuple[LoadedComponent, ...]:
        """What is cached; a model's files are one component."""
        return tuple(
            LoadedComponent(
                entry.model_id,
                "files",
                ByteFigure.measured(entry.size_bytes, _SOURCE),
                None,
                entry.last_use_time,
                entry.in_use,
            )
            for entry in self._cache.entries()
        )

    def pinned(self, model_id: str) -> bool:
        """Whether a model is to stay whatever the pressure."""
        entry = self._cache.find(model_id)
        return entry is not None and entry.pinned

    async def evict(self, model_id: str, cause: EvictionCause) -> bool:
        """Let a model go."""
        try:
            return await self._cache.evict(model_id, cause) is not None
        except CachedModelInUse:
            return False
