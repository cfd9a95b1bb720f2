"""Memory that a run holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from domains.clients import Caller
from domains.errors import DomainError
from domains.finishing import finishing
from domains.memory.core.leases import Leases
from domains.memory.types import Allocation, AllocationRequest

_RENEWALS = 3
"""Within one lease."""


class RunMemory:
    """Takes and frees memory for the steps of one run, over all its turns in this server; a
    paused run holds what it has. Where a worker dies, or the client frees memory of the run by
    itself, it is gone as every other allocation is.

    Args:
        leases: Where it is taken.
        pause: Waits for so many seconds between two renewals.
    """

    def __init__(
        self, leases: Leases, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._leases, self._pause = leases, pause
        self._taken: dict[int, Allocation] = {}
        self._kept: set[str] = set()
        self._freed: set[str] = set()
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._ending: asyncio.Task[None] | None = None

    async def allocate(
        self, place: int, client: Caller, request: AllocationRequest, *, keep: bool
    ) -> Allocation:
        """The memory of the step at that place in the workflow: what an earlier turn of the run
        took, or new one.

        Raises:
            DomainError: As `Leases.create`.
        """
        if place in self._taken:
            return self._taken[place]
        taken = await self._leases.create(client, request)
        self._taken[place] = taken
        if keep:
            self._kept.add(taken.allocation_id)
        renewing = self._renew(client, taken.allocation_id, request.lease_seconds)
        self._renewing[taken.allocation_id] = asyncio.create_task(renewing)
        return taken

    @finishing  # a pause comes after it: what is freed is known to be
    async def free(self, client: Caller, allocation_id: str) -> None:
        """Free memory of the client; what an earlier turn of the run freed stays free.

        Raises:
            DomainError: As `Leases.delete`.
        """
        if allocation_id not in self._freed:
            await self._leases.delete(client, allocation_id)
            self._freed.add(allocation_id)
            self._let_go(allocation_id)

    def end(self, client: Caller) -> None:
        """The run is over: free what is not kept; what is ends with its lease, unless the
        client renews that."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(client))

    async def ended(self) -> None:
        """Return once that is done."""
        if self._ending is not None:
            await asyncio.shield(self._ending)

    async def _end(self, client: Caller) -> None:
        for allocation_id in tuple(self._renewing):
            self._let_go(allocation_id)
            if allocation_id not in self._kept:
                # What is gone needs nothing, and what a copy uses ends with its lease.
                with contextlib.suppress(DomainError):
                    await self._leases.delete(client, allocation_id)

    def _let_go(self, allocation_id: str) -> None:
        renewing = self._renewing.pop(allocation_id, None)
        if renewing is not None:
            renewing.cancel()

    async def _renew(self, client: Caller, allocation_id: str, seconds: float) -> None:
        """Renew a lease for as long as the memory is there."""
        with contextlib.suppress(DomainError):
            while True:
                await self._pause(seconds / _RENEWALS)
                self._leases.renew(client, [allocation_id], seconds)
