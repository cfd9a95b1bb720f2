"""The cache: models' weight files in main memory, from where workers load them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from domains.model.core.cache_lease import CacheLease
from domains.model.core.cache_ledger import CacheEntry
from domains.model.core.cache_memory import CacheMemory
from domains.model.core.filling import Filling
from domains.model.errors import BudgetTooSmall, CachedModelInUse, CacheFull
from domains.model.ports import CacheArena, FileStates, WeightReader
from domains.model.types import CachedModelInfo, CacheStatus
from domains.own_threads import in_own_thread
from domains.values import EvictionCause, ModelPlace

_MOST_FILES = 1_000

Changed = Callable[[str, EvictionCause | None], None]


class ModelCache:
    """Keeps models within a budget. Belongs to one event loop.

    Args:
        reader: Reads models' files.
        memory: Where they are kept.
        states: Tells whether files are as they were when they were read.
        now: The wall clock, timezone-aware.
        changed: Called with a model that is cached now, or that was evicted and why.
    """

    def __init__(
        self,
        reader: WeightReader,
        memory: CacheMemory,
        states: FileStates,
        *,
        now: Callable[[], datetime],
        changed: Changed = lambda model_id, cause: None,
    ) -> None:
        self._reader = reader
        self._memory = memory
        self._states = states
        self._now = now
        self._changed = changed
        self._lock_problem = "No worker has page-locked it."
        self._fillings: dict[CacheEntry, Filling] = {}

    # Using it.

    async def lease(self, model_id: str, place: ModelPlace, *, fill: bool) -> CacheLease | None:
        """Hold a model in the cache while work uses it.

        Args:
            model_id: The model.
            place: Where it lies.
            fill: Whether to begin reading it where it is not cached.

        Returns:
            None where it is not cached and not to be read.

        Raises:
            CacheFull: It has no room.
            FailedPrecondition: It cannot be used, with any MODEL_ reason.
            PathOutsideRoot: A part of it is a link that leads outside its root.
            OSError: The machine cannot read it at the moment.
        """
        entry = await self._current(model_id, place)
        if entry is None and fill:
            entry = await self._begin(model_id, place)
        if entry is None:
            return None
        ledger = self._memory.ledger
        ledger.lease(entry)
        ledger.touch(entry, self._now())
        return CacheLease(entry, self._fillings.get(entry), self._memory.arena, self._release)

    def count_load(self, model_id: str, *, cached: bool) -> None:
        """A worker loaded a model: from the cache, or from disk."""
        counts = self._memory.ledger.counts
        if not cached:
            counts.misses += 1
            return
        counts.hits += 1
        if (entry := self._memory.ledger.find(model_id)) is not None:
            entry.hit_count += 1

    # Changing what is kept.

    def pin(self, model_id: str, pinned: bool) -> None:
        """Keep a cached model whatever the pressure, or no longer."""
        if (entry := self._memory.ledger.find(model_id)) is not None:
            entry.pinned = pinned

    async def evict(
        self, model_id: str, cause: EvictionCause = EvictionCause.REQUESTED
    ) -> int | None:
        """Let a model go; its memory is free when this returns.

        Returns:
            The bytes freed; None where it is not cached.

        Raises:
            CachedModelInUse: Work uses it, or it is being read.
        """
        entry = self._memory.ledger.find(model_id)
        if entry is None:
            return None
        if entry.leases:
            raise CachedModelInUse(model_id)
        await self._drop(entry, cause)
        return entry.size_bytes

    async def set_budget(self, budget_bytes: int | None) -> None:
        """Change the budget; None goes back to the server's setting. What no longer fits goes.

        Raises:
            BudgetTooSmall: What is pinned or in use is more; nothing changes.
            DomainError: It cannot be written down; it holds until the server ends.
        """
        host = await self._memory.read()
        ledger, budget = self._memory.ledger, self._memory.budget
        wanted = budget_bytes
        if wanted is None:
            wanted = budget.unchosen(host.total.value)
        if ledger.kept_bytes > wanted:
            raise BudgetTooSmall(wanted, ledger.kept_bytes)
        try:
            await asyncio.to_thread(budget.choose, budget_bytes)
        finally:
            # One may come into use while another goes.
            while ledger.used_bytes > wanted and (left := ledger.evictable()):
                await self._drop(left[0], EvictionCause.REQUESTED)

    async def revise(self, place_of: Callable[[str], ModelPlace | None]) -> None:
        """Let go what does not lie on disk any more as it was read.

        Args:
            place_of: Where the catalogue has a model; None where it has none.
        """
        ready = [entry for entry in self._memory.ledger if entry.ready]
        for entry in ready:
            same = place_of(entry.model_id) == entry.place
            if not same or not await self._states.unchanged(entry.place, entry.states):
                await self._drop(entry, EvictionCause.FILE_CHANGED)

    async def close(self) -> None:
        """Stop reading and give all memory back."""
        for filling in self._fillings.values():
            filling.stop()
        await self._memory.close()

    # Telling.

    @property
    def used_bytes(self) -> int:
        """Main memory that it takes."""
        return self._memory.ledger.used_bytes

    def entries(self) -> tuple[CachedModelInfo, ...]:
        """What is cached, next to be evicted first."""
        return tuple(_info(entry) for entry in self._memory.ledger if entry.ready)

    def find(self, model_id: str) -> CachedModelInfo | None:
        """A cached model; None where it is not, or not yet."""
        entry = self._memory.ledger.find(model_id)
        return _info(entry) if entry is not None and entry.ready else None

    def would_read(self, model_id: str, size_bytes: int) -> bool:
        """Whether somebody who needs a model of that size waits until it is read, as far as
        is known without asking the machine."""
        if self.find(model_id) is not None:
            return False
        return size_bytes <= self._memory.largest - self._memory.ledger.kept_bytes

    async def status(self) -> CacheStatus:
        """What it holds and how well it works."""
        host = await self._memory.read()
        counts, problem = self._memory.ledger.counts, self._memory.problem
        return CacheStatus(
            entries=self.entries()[::-1],
            used_bytes=self.used_bytes,
            budget_bytes=self._memory.budget_of(host),
            hit_count=counts.hits,
            miss_count=counts.misses,
            eviction_count=counts.evictions,
            shared=not problem,
            page_locked=not problem and not self._lock_problem,
            remark=problem or self._lock_problem,
        )

    def note_page_lock(self, problem: str) -> None:
        """A worker page-locked the arena for its device; or could not, and why."""
        self._lock_problem = problem

    # Filling it.

    async def _current(self, model_id: str, place: ModelPlace) -> CacheEntry | None:
        """The entry of a model, if it is what lies on disk."""
        entry = self._memory.ledger.find(model_id)
        if entry is None:
            return None
        if entry.place == place and await self._unchanged(entry):
            return entry if entry.valid else None
        self._drop(entry, EvictionCause.FILE_CHANGED)
        return None

    async def _unchanged(self, entry: CacheEntry) -> bool:
        """Whether its files are as they were; what is being read finds out by itself."""
        if not entry.ready:
            return True
        return await self._states.unchanged_lately(entry.place, entry.states)

    async def _begin(self, model_id: str, place: ModelPlace) -> CacheEntry:
        """Begin to read a model; others may do so at the same time."""
        files = await in_own_thread(self._reader.files, place)
        needed = sum(file.size_bytes for file in files)
        await self._memory.settle()
        host = await self._memory.read()
        ledger = self._memory.ledger
        begun = ledger.find(model_id)
        if begun is not None:
            if begun.place == place:
                return begun
            self._drop(begun, EvictionCause.FILE_CHANGED)
        pending = sum(filling.left_bytes for filling in self._fillings.values())
        limit = self._memory.limit(host, pending)
        arena, found = self._memory.arena, None
        if arena is not None and len(files) <= _MOST_FILES:
            found = ledger.reserve(model_id, place, files, limit=limit, now=self._now())
        if arena is None or found is None:
            budget = self._memory.budget_of(host)
            raise CacheFull(model_id, needed, budget, limit, self._memory.problem)
        for evicted in found.evicted:
            self._changed(evicted.model_id, EvictionCause.ROOM)
        self._memory.give_back(found.surplus)
        ledger.lease(found.entry)  # the reading's own
        self._fillings[found.entry] = filling = Filling(model_id, needed)
        self._memory.run(self._fill(found.entry, filling, arena))
        return found.entry

    async def _fill(self, entry: CacheEntry, filling: Filling, arena: CacheArena) -> None:
        files = [
            (state, arena.memory[file.offset_bytes : file.offset_bytes + file.size_bytes])
            for state, file in zip(entry.states, entry.files, strict=True)
        ]
        entry.ready = await filling.read(self._reader, entry.place, files)
        del self._fillings[entry]
        if not entry.ready:
            self._memory.ledger.invalidate(entry)
        elif entry.valid:
            self._changed(entry.model_id, None)
        self._release(entry)

    # Letting go.

    def _drop(self, entry: CacheEntry, cause: EvictionCause) -> asyncio.Future[None]:
        """Let nobody find an entry any more; what nobody uses is given back."""
        freed = []
        if entry.valid:
            freed = self._memory.ledger.invalidate(entry)
            if entry.ready:
                self._changed(entry.model_id, cause)
        return self._memory.give_back(freed)

    def _release(self, entry: CacheEntry) -> None:
        """One less uses an entry. What is read for nobody is not read on."""
        ledger, filling = self._memory.ledger, self._fillings.get(entry)
        freed = ledger.release(entry)
        if filling is not None and entry.leases == 1:  # only the reading itself
            filling.stop()
            ledger.invalidate(entry)
        self._memory.give_back(freed)


def _info(entry: CacheEntry) -> CachedModelInfo:
    return CachedModelInfo(
        entry.model_id,
        entry.size_bytes,
        entry.last_use_time,
        entry.pinned,
        entry.hit_count,
        in_use=entry.leases > 0,
    )
