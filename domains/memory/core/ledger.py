"""Which client holds which memory until when, and what uses it now: the books alone."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from domains.clients import Caller
from domains.memory.errors import AllocationBusy, AllocationNotFound, QuotaExceeded
from domains.memory.types import Allocation, Place, Region

_REMEMBERED = 10_000  # allocations whose end is still explained


@dataclass(frozen=True)
class Reservation:
    """Room that its owner's quota counts although nothing is allocated there yet."""

    owner: str
    place: Place
    size_bytes: int


@dataclass
class Lease:
    """An allocation, the memory behind it, and its uses now.

    `touches` are short reads and writes, `readers` and `writer` copies that take long.
    """

    allocation: Allocation
    region: Region
    expires: float
    touches: int = 0
    readers: int = 0
    writer: bool = False

    @property
    def copied(self) -> bool:
        """Whether a copy or transfer uses it."""
        return self.writer or self.readers > 0

    @property
    def busy(self) -> bool:
        """Whether its memory must stay where it is now."""
        return self.copied or self.touches > 0


class Ledger:
    """The leases of every client; what a caller does not see is not found.

    Args:
        pool: The memory that a place's bytes come from: places that share one share its
            quota.
        monotonic: Seconds for expiry; a change of the wall clock must not end leases.
        now: The wall clock for what clients see, timezone-aware.
    """

    def __init__(
        self,
        *,
        pool: Callable[[Place], str],
        monotonic: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._now = now
        self._leases: dict[str, Lease] = {}
        self._reservations: list[Reservation] = []
        self._untaken: list[Reservation] = []  # those whose memory is not there yet
        self._ends: OrderedDict[str, tuple[str, str, str]] = OrderedDict()
        self._untouched = asyncio.Event()

    # Room.

    def held(self, owner: str, pool: str) -> int:
        """Bytes a client holds of a pool or has reserved there."""
        allocated = sum(
            one.allocation.size_bytes
            for one in self._of(owner)
            if self._pool(one.allocation.place) == pool
        )
        return allocated + sum(
            one.size_bytes
            for one in self._reservations
            if one.owner == owner and self._pool(one.place) == pool
        )

    def reserve(self, owner: str, place: Place, size: int, quota: int | None) -> Reservation:
        """Set room aside while memory is being taken; `admit` or `cancel` ends it.

        `quota` is the most bytes the client may hold of the place's pool.

        Raises:
            QuotaExceeded: CLIENT_QUOTA_EXCEEDED.
        """
        pool = self._pool(place)
        held = self.held(owner, pool)
        if quota is not None and held + size > quota:
            raise QuotaExceeded(owner, pool, size, held, quota)
        reservation = Reservation(owner, place, size)
        self._reservations.append(reservation)
        self._untaken.append(reservation)
        return reservation

    def reserved(self, place: Place) -> int:
        """Bytes of a place's pool that are being taken now, for any client."""
        pool = self._pool(place)
        here = (one for one in self._untaken if self._pool(one.place) == pool)
        return sum(one.size_bytes for one in here)

    def taken(self, reservation: Reservation) -> None:
        """Its memory is there: what is free is known without it from now on."""
        self._untaken = [r for r in self._untaken if r is not reservation]

    def cancel(self, reservation: Reservation) -> None:
        """Nothing came of it."""
        self.taken(reservation)
        self._reservations = [r for r in self._reservations if r is not reservation]

    # Leases.

    def admit(
        self, reservation: Reservation, region: Region, *, label: str, lease_seconds: float
    ) -> Allocation:
        """The memory is there: its owner holds it from now on."""
        self.cancel(reservation)
        now = self._now()
        allocation = Allocation(
            allocation_id=str(uuid.uuid4()),
            owner=reservation.owner,
            label=label,
            place=reservation.place,
            size_bytes=reservation.size_bytes,
            create_time=now,
            lease_expire_time=now + timedelta(seconds=lease_seconds),
        )
        expires = self._monotonic() + lease_seconds
        self._leases[allocation.allocation_id] = Lease(allocation, region, expires)
        return allocation

    def get(self, caller: Caller, allocation_id: str) -> Lease:
        """A lease that the caller may see.

        Raises:
            AllocationNotFound: There is none of that id, or no longer; says why it ended.
        """
        lease = self._leases.get(allocation_id)
        if lease is not None and caller.sees(lease.allocation.owner):
            return lease
        owner, cause, why = self._ends.get(allocation_id, ("", "", ""))
        if cause and caller.sees(owner):
            raise AllocationNotFound(allocation_id, why, cause=cause)
        raise AllocationNotFound(allocation_id)

    def lives(self, allocation_id: str) -> bool:
        """Whether there is such an allocation, of any client."""
        return allocation_id in self._leases

    def renew(
        self, caller: Caller, allocation_ids: Iterable[str], lease_seconds: float
    ) -> tuple[Allocation, ...]:
        """Let leases end that much later than now; no ids means all that are the caller's own.

        Raises:
            AllocationNotFound: One of them is not there; none is renewed then.
        """
        ids = tuple(dict.fromkeys(allocation_ids))
        leases = [self.get(caller, one) for one in ids] if ids else self._of(caller.name)
        expire_time = self._now() + timedelta(seconds=lease_seconds)
        for lease in leases:
            lease.expires = self._monotonic() + lease_seconds
            lease.allocation = replace(lease.allocation, lease_expire_time=expire_time)
        return tuple(lease.allocation for lease in leases)

    def seen_by(self, caller: Caller) -> list[Lease]:
        """The leases that the caller may see, oldest first."""
        return [one for one in self._leases.values() if caller.sees(one.allocation.owner)]

    def _of(self, owner: str) -> list[Lease]:
        return [one for one in self._leases.values() if one.allocation.owner == owner]

    def held_by(self, owner: str) -> int:
        """Bytes of a client's leases, in all memories together."""
        return sum(one.allocation.size_bytes for one in self._of(owner))

    def all(self) -> list[Lease]:
        """Every lease, oldest first."""
        return list(self._leases.values())

    def expired(self) -> list[Lease]:
        """Leases whose time is over and that nothing uses just now."""
        return [one for one in self._leases.values() if self.is_expired(one)]

    def is_expired(self, lease: Lease) -> bool:
        """Whether it still lives, its time is over and nothing uses it just now."""
        lives = self._leases.get(lease.allocation.allocation_id) is lease
        return lives and lease.expires <= self._monotonic() and not lease.busy

    def relocate(self, lease: Lease, reservation: Reservation, region: Region) -> None:
        """The allocation lies elsewhere from now on."""
        self.cancel(reservation)
        lease.allocation = replace(lease.allocation, place=reservation.place)
        lease.region = region

    def remove(self, lease: Lease, cause: str, why: str) -> None:
        """The lease is over; a later question is answered with `why`."""
        allocation = lease.allocation
        del self._leases[allocation.allocation_id]
        self._ends[allocation.allocation_id] = (allocation.owner, cause, why)
        while len(self._ends) > _REMEMBERED:
            self._ends.popitem(last=False)

    def lose(self, device_id: str) -> None:
        """A device's worker ended, and with it what it held."""
        for lease in self.all():
            if lease.allocation.place.device_id == device_id:
                why = f"the worker of {device_id} ended and took its memory along"
                self.remove(lease, "worker_lost", why)

    def sum(self, place: Place) -> int:
        """Bytes of all allocations in exactly this place."""
        allocations = (lease.allocation for lease in self._leases.values())
        return sum(one.size_bytes for one in allocations if one.place == place)

    # Uses: an allocation stays where it is inside each of these blocks.

    @asynccontextmanager
    async def touching(self, caller: Caller, allocation_id: str) -> AsyncIterator[Lease]:
        """A short read or write.

        Raises:
            AllocationNotFound: There is none, or no longer.
        """
        lease = self.get(caller, allocation_id)
        lease.touches += 1
        try:
            yield lease
        finally:
            lease.touches -= 1
            self._untouched.set()

    @asynccontextmanager
    async def copying(
        self, caller: Caller, source_id: str, target_id: str
    ) -> AsyncIterator[tuple[Lease, Lease]]:
        """A copy from one allocation into another one, or within one.

        Raises:
            AllocationNotFound: One of them is not there.
            AllocationBusy: Another copy uses the target or writes the source.
        """
        source, target = self.get(caller, source_id), self.get(caller, target_id)
        with _written(target), nullcontext() if source is target else _read(source):
            await self.still(source, target)
            yield source, target

    @asynccontextmanager
    async def moving(self, caller: Caller, allocation_id: str) -> AsyncIterator[Lease]:
        """A transfer: nothing else writes, copies or frees it.

        Raises:
            AllocationNotFound: There is none.
            AllocationBusy: A copy uses it.
        """
        lease = self.get(caller, allocation_id)
        with _written(lease):
            await self.still(lease)
            yield lease

    async def still(self, *leases: Lease) -> None:
        """Wait until no short read or write of them is under way."""
        while any(lease.touches for lease in leases):
            self._untouched.clear()
            await self._untouched.wait()


@contextmanager
def _read(lease: Lease) -> Iterator[None]:
    if lease.writer:
        raise AllocationBusy(lease.allocation.allocation_id, "read")
    lease.readers += 1
    try:
        yield
    finally:
        lease.readers -= 1


@contextmanager
def _written(lease: Lease) -> Iterator[None]:
    if lease.copied:
        raise AllocationBusy(lease.allocation.allocation_id, "written or moved")
    lease.writer = True
    try:
        yield
    finally:
        lease.writer = False
