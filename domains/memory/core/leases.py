"""Leases: memory lent to clients, kept while they renew, given back when they do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from domains.device.core import DeviceInventory
from domains.finishing import finished
from domains.memory.core.ledger import Lease, Ledger
from domains.memory.core.lending import Lender
from domains.memory.core.rules import check_allocation, check_place, check_renewal
from domains.memory.core.store import MemoryStore
from domains.memory.core.uses import Uses
from domains.memory.errors import AllocationBusy, AllocationRequestReused, OutOfMemory
from domains.memory.ports import DeviceMeter
from domains.memory.types import (
    Allocation,
    AllocationRequest,
    Place,
    Reconciliation,
    SegmentRegion,
)
from domains.paging import Page, paginate
from domains.values import ByteFigure

_TOLD = "sum of the worker's buffers, when it last told"
_UNTOLD = "no worker of the device has told it yet"


@dataclass(frozen=True)
class _Keyed:
    """A request that may come again, and what became of it."""

    request: AllocationRequest
    task: asyncio.Task[Allocation]


class Leases:
    """Lends memory to clients; no client sees or frees what another holds.

    Someone calls `sweep` again and again, and `lose` when a worker ended.

    Args:
        ledger: Keeps the books.
        lender: Takes memory.
        store: Gives it back.
        uses: Knows who reads and writes it just now.
        devices: Knows the devices.
        meter: Tells what the workers' buffers come to.
        exhausted: Told of each place that had no room for a request.
    """

    def __init__(
        self,
        ledger: Ledger,
        lender: Lender,
        store: MemoryStore,
        uses: Uses,
        devices: DeviceInventory,
        meter: DeviceMeter,
        *,
        exhausted: Callable[[Place], None] = lambda place: None,
    ) -> None:
        self._ledger = ledger
        self._lender = lender
        self._store = store
        self._devices = devices
        self._meter = meter
        self._uses = uses
        self._exhausted = exhausted
        self._keyed: dict[tuple[str, str], _Keyed] = {}

    async def allocate(self, client: str, request: AllocationRequest) -> Allocation:
        """Take memory for a client; the same request_id again finds what it took.

        A request_id is remembered while its allocation lives. A caller that gives up
        leaves nothing behind, unless it sent a request_id and so may ask again.

        Raises:
            InvalidMemoryRequest: The content breaks rules.
            DomainError: The device cannot be used, there is no room, the quota is reached,
                or the request_id belongs to another request.
        """
        check_allocation(request)
        if not request.request_id:
            return await self._allocate(client, request)
        key = (client, request.request_id)
        known = self._keyed.get(key)
        if known is None or not self._stands(known):
            task = asyncio.create_task(self._allocate(client, request))
            task.add_done_callback(_heard)
            known = self._keyed[key] = _Keyed(request, task)
        elif known.request != request:
            taken = known.task.result().allocation_id if known.task.done() else ""
            raise AllocationRequestReused(request.request_id, taken)
        allocation = await asyncio.shield(known.task)
        return self._ledger.get(client, allocation.allocation_id).allocation

    async def _allocate(self, client: str, request: AllocationRequest) -> Allocation:
        assert request.place is not None
        place = await self._lender.resolve(request.place)
        try:
            taken = await self._lender.take(client, place, request.size_bytes)
        except OutOfMemory:
            self._exhausted(place)
            raise
        return self._ledger.admit(
            taken.reservation,
            place,
            taken.region,
            label=request.label,
            lease_seconds=request.lease_seconds,
        )

    def _stands(self, known: _Keyed) -> bool:
        """Whether the request is under way, or what it took is still lent."""
        if not known.task.done():
            return True
        if known.task.cancelled() or known.task.exception() is not None:
            return False
        return self._ledger.lives(known.task.result().allocation_id)

    async def deallocate(self, client: str, allocation_id: str) -> int:
        """Give memory back; returns its bytes. Reads and writes under way end first.

        Raises:
            AllocationNotFound: There is none, or it is free already.
            AllocationBusy: A copy uses it.
        """
        lease = self._ledger.get(client, allocation_id)
        if lease.copied:
            raise AllocationBusy(allocation_id, "freed")
        await self._end(lease, "deallocated", "it was freed before")
        return lease.allocation.size_bytes

    def renew(
        self, client: str, allocation_ids: Sequence[str], lease_seconds: float
    ) -> tuple[Allocation, ...]:
        """Let leases end that much later than now; no ids means all of the client's.

        Raises:
            InvalidMemoryRequest: The content breaks rules.
            AllocationNotFound: One of them is not there; none is renewed then.
        """
        check_renewal(allocation_ids, lease_seconds)
        return self._ledger.renew(client, allocation_ids, lease_seconds)

    async def list(
        self, client: str, place: Place | None, *, page_size: int, page_token: str
    ) -> Page[Allocation]:
        """The client's allocations, oldest first, in exactly `place`; None is everywhere.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE, NAME_INVALID.
            DeviceNotFound: There is no such device.
        """
        check_place(place)
        where = None if place is None else await self._lender.resolve(place)
        found = [
            lease.allocation
            for lease in self._ledger.of(client)
            if where is None or lease.allocation.place == where
        ]
        scope = f"{client} {where}"
        return paginate(found, page_size=page_size, page_token=page_token, scope=scope)

    def reconcile(self) -> tuple[Reconciliation, ...]:
        """The leases of all clients against the allocators: main memory, then devices.

        Pinned main memory counts as main memory. The allocators' figures include what
        copies use on the way, and whole pages.
        """
        places = self._ledger.places()
        host = sum(self._ledger.sum(place) for place in places if place.host)
        result = [Reconciliation(Place(), host, self._store.host.figure())]
        for place in [Place(device.device_id) for device in self._devices.devices]:
            figures = self._meter.figures(place.device_id)
            lent = self._ledger.sum(place)
            if figures is not None:
                told = ByteFigure.measured(figures.leased_bytes, _TOLD)
                result.append(Reconciliation(place, lent, told))
            elif lent:
                result.append(Reconciliation(place, lent, ByteFigure.unknown(_UNTOLD)))
        return tuple(result)

    # Ends that nobody asks for.

    async def sweep(self) -> None:
        """Give back what nobody renewed, and forget requests whose allocation is gone."""
        for lease in self._ledger.expired():
            await self._end(lease, "expired", "its lease expired and it was freed")
        self._keyed = {key: one for key, one in self._keyed.items() if self._stands(one)}

    def lose(self, device_id: str) -> None:
        """A device's worker ended: what it held is gone, what it pinned is not pinned."""
        self._ledger.lose(device_id)
        names = self._store.forget_pins(device_id)
        for lease in self._ledger.all():
            region = lease.region
            if isinstance(region, SegmentRegion) and region.segment.name in names:
                lease.allocation = replace(lease.allocation, place=Place())

    async def close(self) -> None:
        """Take nothing more; what is lent ends with this server and its workers."""
        tasks = [one.task for one in self._keyed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, lease: Lease, cause: str, why: str) -> None:
        """Take the lease from the books and its memory back, whoever is cancelled."""
        self._ledger.remove(lease, cause, why)

        async def free() -> None:
            await self._uses.still(lease)
            await self._store.free(lease.allocation.place, lease.region)

        await finished(free())


def _heard(task: asyncio.Task[Allocation]) -> None:
    """Its callers may all be gone: an exception nobody awaits is no news."""
    if not task.cancelled():
        task.exception()
