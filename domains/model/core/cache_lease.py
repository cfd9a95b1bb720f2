"""A hold on a cached model, for as long as work uses it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from domains.model.core.cache_ledger import CacheEntry
from domains.model.core.filling import Filling
from domains.model.ports import CacheArena
from domains.session.types import TransferProgress
from domains.values import CachedModel


class CacheLease:
    """A model that stays in the cache until `end`, from `ModelCache.lease`."""

    def __init__(
        self,
        entry: CacheEntry,
        filling: Filling | None,
        arena: CacheArena | None,
        release: Callable[[CacheEntry], None],
    ) -> None:
        assert arena is not None  # where there is none, there are no entries
        self._entry = entry
        self._filling = filling
        self._release: Callable[[CacheEntry], None] | None = release
        self.cached = CachedModel(arena.name, arena.size, entry.files)
        """What a worker needs to read it, once `filled` has ended."""

    @property
    def model_id(self) -> str:
        """Whose."""
        return self._entry.model_id

    async def filled(self) -> AsyncGenerator[TransferProgress]:
        """How far reading it is, until it is all there.

        Raises:
            Exception: What reading failed with; the model is not cached then.
        """
        if self._filling is not None:
            async for progress in self._filling.progress():
                yield progress

    async def follow(self, record: Callable[[TransferProgress], None]) -> None:
        """Return when it is all there; `record` is called with how far it is.

        Raises:
            Exception: As `filled`.
        """
        async with aclosing(self.filled()) as steps:
            async for progress in steps:
                record(progress)

    async def aclose(self) -> None:
        """As `end`, for `aclosing`."""
        self.end()

    def end(self) -> None:
        """Hold it no longer. Once more is harmless."""
        if self._release is not None:
            self._release(self._entry)
            self._release = None
