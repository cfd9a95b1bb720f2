"""Leases: memory that clients hold while they renew, and that is freed when they do not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from domains.clients import Caller
from domains.device.core import DeviceInventory
from domains.errors import DomainError, Reason, ResourceExhausted
from domains.finishing import finished
from domains.limits import LIMITS
from domains.memory.core.address_space import AddressSpace
from domains.memory.core.errands import Errands
from domains.memory.core.headroom import Headroom
from domains.memory.core.ledger import Lease, Ledger, Reservation
from domains.memory.core.rules import check_allocation, check_listing, check_renewal
from domains.memory.errors import (
    AllocationBusy,
    AllocationRequestReused,
    MemoryElsewhere,
    OutOfMemory,
)
from domains.memory.ports import DeviceMeter
from domains.memory.types import (
    Allocation,
    AllocationRequest,
    Place,
    Reconciliation,
    Region,
    SegmentRegion,
)
from domains.paging import Page, paginate
from domains.values import ByteFigure

_log = logging.getLogger("deviceops.memory")

_REPORTED = "sum of the worker's buffers, as of its last figures"
_UNREPORTED = ByteFigure.unknown("no worker of the device has sent figures yet")
_MOST_SHOWN = LIMITS["RenewLeasesResponse.allocations"].max_elements
_OUT_OF_MEMORY = {Reason.HOST_OUT_OF_MEMORY, Reason.DEVICE_OUT_OF_MEMORY}


@dataclass(frozen=True)
class Taken:
    """Memory that is there and that no lease names yet; the reservation counts it."""

    reservation: Reservation
    region: Region


@dataclass(frozen=True)
class _Keyed:
    """A request that may come again, and what became of it."""

    request: AllocationRequest
    task: asyncio.Task[Allocation]


class Leases:
    """Gives clients memory, and lets nobody see or free what is not theirs to see.

    Someone calls `sweep` again and again, and `lose` when a worker ended.

    Args:
        ledger: Keeps the books.
        space: Takes memory and frees it.
        headroom: Makes room for it.
        devices: Finds the device that a request names.
        meter: Has what the workers report of their buffers.
        quota_bytes: Most bytes of one memory that one client may hold; None is half of
            that memory, 0 is no limit.
        exhausted: Called with each place that had no room for a request.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: AddressSpace,
        headroom: Headroom,
        devices: DeviceInventory,
        meter: DeviceMeter,
        *,
        quota_bytes: int | None,
        exhausted: Callable[[Place], None] = lambda place: None,
    ) -> None:
        self._ledger = ledger
        self._space = space
        self._headroom = headroom
        self._devices = devices
        self._meter = meter
        self._quota_bytes = quota_bytes
        self._exhausted = exhausted
        self._keyed: dict[tuple[str, str], _Keyed] = {}
        self._sweeping: Errands[None] = Errands()  # by the device's id

    async def create(self, caller: Caller, request: AllocationRequest) -> Allocation:
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
            return await self._create(caller.name, request)
        key = (caller.name, request.request_id)
        known = self._keyed.get(key)
        if known is None or not self._stands(known):
            task = asyncio.create_task(self._create(caller.name, request))
            task.add_done_callback(_heard)
            known = self._keyed[key] = _Keyed(request, task)
        elif known.request != request:
            taken = known.task.result().allocation_id if known.task.done() else ""
            raise AllocationRequestReused(request.request_id, taken)
        allocation = await asyncio.shield(known.task)
        return self._ledger.get(caller, allocation.allocation_id).allocation

    async def _create(self, owner: str, request: AllocationRequest) -> Allocation:
        assert request.place is not None
        place = await self.resolve(request.place)
        try:
            taken = await self.take(owner, place, request.size_bytes)
        except OutOfMemory:
            self._exhausted(place)
            raise
        label, seconds = request.label, request.lease_seconds
        return self._ledger.admit(
            taken.reservation, taken.region, label=label, lease_seconds=seconds
        )

    def _stands(self, known: _Keyed) -> bool:
        """Whether the request is under way, or its allocation lives."""
        if not known.task.done():
            return True
        if known.task.cancelled() or known.task.exception() is not None:
            return False
        return self._ledger.lives(known.task.result().allocation_id)

    async def delete(self, caller: Caller, allocation_id: str) -> int:
        """Free memory; returns its bytes. Reads and writes under way end first.

        Raises:
            AllocationNotFound: There is none, or it is free already.
            AllocationBusy: A copy uses it.
        """
        lease = self._ledger.get(caller, allocation_id)
        if lease.copied:
            raise AllocationBusy(allocation_id, "freed")
        await self._end(lease, "deleted", "it was freed before")
        return lease.allocation.size_bytes

    def renew(
        self, caller: Caller, allocation_ids: Sequence[str], lease_seconds: float
    ) -> tuple[Allocation, ...]:
        """Let leases end that much later than now; no ids means all that are the caller's own.

        Returns:
            Those that were renewed; of very many the oldest.

        Raises:
            InvalidMemoryRequest: The content breaks rules.
            AllocationNotFound: One of them is not there; none is renewed then.
        """
        check_renewal(allocation_ids, lease_seconds)
        renewed = self._ledger.renew(caller, allocation_ids, lease_seconds)
        return renewed[:_MOST_SHOWN]

    async def list(
        self,
        caller: Caller,
        place: Place | None,
        *,
        owner: str = "",
        page_size: int,
        page_token: str,
    ) -> Page[Allocation]:
        """Allocations that the caller may see, oldest first.

        Args:
            caller: Who asks.
            place: Only those in exactly this place; None is everywhere.
            owner: Only those of this client; empty is everybody's.
            page_size: As `paginate`.
            page_token: As `paginate`.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE, NAME_INVALID.
            DeviceNotFound: There is no such device.
        """
        check_listing(place, owner)
        where = place
        if place is not None and not place.host:
            where = Place((await self._devices.get(place.device_id)).device.device_id)
        found = [
            lease.allocation
            for lease in self._ledger.seen_by(caller)
            if where in (None, lease.allocation.place) and owner in ("", lease.allocation.owner)
        ]
        scope = repr(("allocations", caller.name, where, owner))
        return paginate(found, page_size=page_size, page_token=page_token, scope=scope)

    def reconcile(self) -> tuple[Reconciliation, ...]:
        """The leases of all clients against the allocators: main memory, then devices.

        Pinned main memory counts as main memory. The allocators' figures include what
        copies use on the way, and whole pages.
        """
        main = self._ledger.sum(Place()) + self._ledger.sum(Place(pinned=True))
        result = [Reconciliation(Place(), main, self._space.host.figure())]
        for place in [Place(device.device_id) for device in self._devices.devices]:
            figures, leased = self._meter.figures(place.device_id), self._ledger.sum(place)
            if figures is not None:
                reported = ByteFigure.measured(figures.leased_bytes, _REPORTED)
                result.append(Reconciliation(place, leased, reported))
            elif leased:
                result.append(Reconciliation(place, leased, _UNREPORTED))
        return tuple(result)

    # Memory that no lease names yet, or no longer.

    async def resolve(self, place: Place) -> Place:
        """The place with its device's id instead of an alias.

        Raises:
            DeviceNotFound, DeviceUnavailable: There is no such device, or it cannot be used.
            MemoryElsewhere: It is in another machine.
        """
        if place.host:
            return place
        device = await self._devices.resolve(place.device_id)
        if device.node:  # before anything is evicted there for nothing
            raise MemoryElsewhere(device.device_id, device.node)
        return Place(device.device_id)

    async def take(self, owner: str, place: Place, size: int) -> Taken:
        """Take `size` bytes in a resolved place. When the caller is cancelled none is kept.

        Raises:
            QuotaExceeded: CLIENT_QUOTA_EXCEEDED.
            OutOfMemory: There is no room; nothing was tried, or the memory itself refused.
            Unavailable: The device's worker is lost or there is none.
            PinningUnsupported: No device can pin.
        """
        reservation = self._ledger.reserve(owner, place, size, await self._quota(place))
        try:
            await self._headroom.make(place, size, lambda: self._ledger.reserved(place) - size)
            region = await self._backed(place, size)
        except BaseException:
            self._ledger.cancel(reservation)
            raise
        self._ledger.taken(reservation)
        return Taken(reservation, region)

    async def _backed(self, place: Place, size: int) -> Region:
        try:
            return await self._space.allocate(place, size)
        except ResourceExhausted as error:
            if error.reason not in _OUT_OF_MEMORY:
                raise
            # The memory itself refused, whatever the figures said before.
            raise await self._headroom.refusal(place, size, error) from error

    async def _quota(self, place: Place) -> int | None:
        if self._quota_bytes is not None:
            return self._quota_bytes or None
        total = await self._headroom.total(place)
        return None if total is None else total // 2

    async def give_up(self, taken: Taken) -> None:
        """Free what no lease came to name."""
        self._ledger.cancel(taken.reservation)
        await self._space.free(taken.reservation.place, taken.region)

    async def relocate(self, lease: Lease, taken: Taken) -> None:
        """The allocation lies where `taken` does from now on; what it lay in is freed."""
        before = lease.allocation.place, lease.region
        self._ledger.relocate(lease, taken.reservation, taken.region)
        if lease.allocation.place.pinned and not self._space.pinned(taken.region):
            # The worker that pinned it ended meanwhile.
            lease.allocation = replace(lease.allocation, place=Place())
        await finished(self._free(lease, *before))

    # Ends that no client asks for.

    async def sweep(self) -> None:
        """Free what was not renewed, and forget requests whose allocation is gone.

        A worker that does not answer is waited for beside the next calls, and keeps nothing
        of other places from being freed.
        """
        for lease in self._ledger.expired():
            where = lease.allocation.place.device_id
            if where not in self._sweeping.under_way:
                self._sweeping.begin(where, self._sweep(where))
        await self._sweeping.ended()
        self._keyed = {key: one for key, one in self._keyed.items() if self._stands(one)}

    async def _sweep(self, device_id: str) -> None:
        """Free what expired on a device, or in main memory."""
        for lease in self._ledger.expired():
            if lease.allocation.place.device_id != device_id:
                continue
            if not self._ledger.is_expired(lease):
                continue  # renewed, used or freed while others were being freed
            try:
                await self._end(lease, "expired", "its lease expired and it was freed")
            except DomainError as error:
                _log.warning("memory of an expired lease was not freed: %s", error)

    def lose(self, device_id: str) -> None:
        """A device's worker ended: what it held is gone, what it pinned is not pinned."""
        self._ledger.lose(device_id)
        names = self._space.forget_pins(device_id)
        for lease in self._ledger.all():
            region = lease.region
            if isinstance(region, SegmentRegion) and region.segment.name in names:
                lease.allocation = replace(lease.allocation, place=Place())

    async def close(self) -> None:
        """Take nothing more; allocations end with this server and its workers."""
        tasks = [one.task for one in self._keyed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, lease: Lease, cause: str, why: str) -> None:
        """Take the lease from the books and free its memory, also when cancelled."""
        self._ledger.remove(lease, cause, why)
        await finished(self._free(lease, lease.allocation.place, lease.region))

    async def _free(self, lease: Lease, place: Place, region: Region) -> None:
        await self._ledger.still(lease)
        await self._space.free(place, region)


def _heard(task: asyncio.Task[Allocation]) -> None:
    """Its callers may all be gone: then its exception is of no interest."""
    if not task.cancelled():
        task.exception()
