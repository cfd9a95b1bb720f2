"""The memory of the cache: made at first need, limited by what the machine can spare, and
given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from domains.memory.ports import HostMemoryReader
from domains.memory.types import HostMemory
from domains.model.core.cache_budget import CacheBudget
from domains.model.core.cache_ledger import CacheLedger
from domains.model.core.extents import Extent
from domains.model.ports import CacheArena

_CLOSING_SECONDS = 5.0
_UNKNOWN = 1 << 62  # bytes of main memory, before it was read
MakeArena = Callable[[int, int], CacheArena]


class CacheMemory:
    """An arena and the account of it. Belongs to one event loop.

    Args:
        budget: How much main memory the cache may take.
        main: Reads main memory.
        make_arena: Makes the arena for a budget and a main memory of so many bytes; raises
            OSError where there can be none. Called at first need.
        spared: The share of main memory that is left to others.
    """

    def __init__(
        self,
        budget: CacheBudget,
        main: HostMemoryReader,
        make_arena: MakeArena,
        *,
        spared: float,
    ) -> None:
        self.budget = budget
        self.ledger = CacheLedger(0)
        self.arena: CacheArena | None = None
        self.problem = ""
        """Why there is no arena; a sentence."""
        self._main = main
        self._make_arena = make_arena
        self._spared = spared
        self._total = _UNKNOWN
        self._returning: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self) -> HostMemory:
        """Main memory now; the arena is there afterwards if there can be one."""
        host = await asyncio.to_thread(self._main.read)
        self._total = host.total.value or 0
        if self.arena is None and not self.problem:
            try:
                self.arena = self._make_arena(self.budget.of(self._total), self._total)
                self.ledger = CacheLedger(self.arena.size, self.ledger.counts)
            except OSError as error:
                self.problem = f"Nothing is kept: {error}."
        return host

    def budget_of(self, host: HostMemory) -> int:
        """The budget, in bytes; 0 where there is no arena."""
        if self.arena is None:
            return 0
        return min(self.budget.of(host.total.value), self.arena.size)

    @property
    def largest(self) -> int:
        """Bytes that the cache may come to take, as far as is known by now."""
        if self.problem:
            return 0
        budget = self.budget.of(self._total)
        return budget if self.arena is None else min(budget, self.arena.size)

    def limit(self, host: HostMemory, pending: int) -> int:
        """Bytes that the cache may take now, with what it takes already.

        Neither more than its budget nor more than leaves others their share of main memory.

        Args:
            host: Main memory now.
            pending: Bytes that are accounted for and not yet taken of main memory.
        """
        budget = self.budget_of(host)
        if host.total.value is None or host.available.value is None:
            return budget
        room = host.available.value - int(self._spared * host.total.value) - pending
        return max(0, min(budget, self.ledger.used_bytes + room))

    def give_back(self, extents: Sequence[Extent]) -> asyncio.Future[None]:
        """Return pages to the system, beside the loop; done when they can be used again."""
        if not extents:
            nothing = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        task = asyncio.create_task(self._give_back(tuple(extents)))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)
        # Whoever gives up waiting does not end it.
        return asyncio.shield(task)

    async def settle(self) -> None:
        """Until what was given back counts as free."""
        if self._returning:
            await asyncio.wait(set(self._returning))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have work done that touches the arena; `close` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give all memory back, once nothing touches it; what a disk that does not answer
        still writes to goes with the process."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_CLOSING_SECONDS)
        await self.settle()
        if self.arena is not None and not self._tasks:
            self.arena.close()
            self.arena = None

    async def _give_back(self, extents: tuple[Extent, ...]) -> None:
        if self.arena is not None:
            await asyncio.to_thread(_return_pages, self.arena, extents)
        self.ledger.returned(extents)


def _return_pages(arena: CacheArena, extents: tuple[Extent, ...]) -> None:
    for offset, length in extents:
        arena.give_back(offset, length)
