"""Copies and transfers as sessions: moved, verified, cancelled within a chunk."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

from domains.clients import Caller
from domains.errors import FieldViolation, Reason
from domains.memory.core.address_space import AddressSpace, Located, at
from domains.memory.core.leases import Leases
from domains.memory.core.ledger import Lease, Ledger
from domains.memory.core.rules import check_copy, check_transfer, length_within
from domains.memory.errors import CopyCorrupted, InvalidMemoryRequest, OffsetOutOfRange
from domains.memory.types import CopyRequest, Place, TransferRequest
from domains.session.core.plan import SessionPlan, SessionRequest, Work
from domains.session.core.session import Session
from domains.session.types import Phase, PhaseStarted, SessionKind, TransferProgress


class Copies:
    """Copies bytes between allocations, and moves allocations between places.

    Copies into one memory wait for each other, in a queue of their own, and never for a
    device's pictures.

    Args:
        ledger: Knows whose memory is where.
        leases: Takes the memory that a transfer moves to.
        space: Moves bytes and compares them.
    """

    def __init__(self, ledger: Ledger, leases: Leases, space: AddressSpace) -> None:
        self._ledger = ledger
        self._leases = leases
        self._space = space

    def copy(self, caller: Caller, request: CopyRequest) -> SessionRequest:
        """Copying bytes of one allocation into another one, as a session.

        Preparing it raises:
            InvalidMemoryRequest: The content breaks rules, or source and target overlap.
            AllocationNotFound: One of them is not there.
            OffsetOutOfRange: The bytes do not lie within them.
        """

        async def work(session: Session) -> None:
            await self._copy(session, caller, request)

        async def prepare() -> SessionPlan:
            check_copy(request)
            self._extent(caller, request)
            place = self._ledger.get(caller, request.target_id).allocation.place
            return _plan(place, request.verify, work)

        return SessionRequest(request.options, request.digest, prepare)

    def transfer(self, caller: Caller, request: TransferRequest) -> SessionRequest:
        """Moving an allocation to another place, as a session.

        It keeps its id. The old memory is given back once the new one has been verified;
        until then, and when anything fails, the allocation is where it was.

        Preparing it raises:
            InvalidMemoryRequest: The content breaks rules.
            AllocationNotFound: There is none.
            DeviceNotFound, DeviceUnavailable: The place cannot be used.
        """

        async def prepare() -> SessionPlan:
            check_transfer(request)
            assert request.place is not None
            self._ledger.get(caller, request.allocation_id)
            place = await self._leases.resolve(request.place)

            async def work(session: Session) -> None:
                await self._transfer(session, caller, replace(request, place=place))

            return _plan(place, request.verify, work)

        return SessionRequest(request.options, request.digest, prepare)

    def _extent(self, caller: Caller, request: CopyRequest) -> int:
        """How many bytes are to be copied, once everything has been checked."""
        source = self._ledger.get(caller, request.source_id).allocation
        target = self._ledger.get(caller, request.target_id).allocation
        begin, end = request.source_offset, request.target_offset
        length = length_within("source_offset_bytes", begin, request.length, source.size_bytes)
        if end < 0 or end + length > target.size_bytes:
            raise OffsetOutOfRange("target_offset_bytes", end, length, target.size_bytes)
        same = source.allocation_id == target.allocation_id
        if same and begin < end + length and end < begin + length:
            rule = "Must not lie within the bytes that are read: they would be overwritten."
            raise InvalidMemoryRequest.of(
                FieldViolation("target_offset_bytes", Reason.FIELDS_CONFLICT, rule)
            )
        return length

    async def _copy(self, session: Session, caller: Caller, request: CopyRequest) -> None:
        length = self._extent(caller, request)
        async with self._ledger.copying(caller, request.source_id, request.target_id) as both:
            source, target = both
            begin = source.allocation.place, at(source.region, request.source_offset)
            end = target.allocation.place, at(target.region, request.target_offset)
            await self._move(session, _item(source), begin, end, length, request.verify)

    async def _transfer(
        self, session: Session, caller: Caller, request: TransferRequest
    ) -> None:
        assert request.place is not None
        async with self._ledger.moving(caller, request.allocation_id) as lease:
            old, size = (lease.allocation.place, lease.region), lease.allocation.size_bytes
            if lease.allocation.place == request.place:
                return
            taken = await self._leases.take(lease.allocation.owner, request.place, size)
            try:
                new = request.place, taken.region
                await self._move(session, _item(lease), old, new, size, request.verify)
                self._ledger.get(caller, request.allocation_id)  # its worker may have died
            except BaseException:
                await self._leases.give_up(taken)
                raise
            await self._leases.relocate(lease, taken)

    async def _move(
        self,
        session: Session,
        item: str,
        source: Located,
        target: Located,
        length: int,
        verify: bool,
    ) -> None:
        """Move bytes, and compare them with their source when they are to be verified."""
        total = 2 * length if verify else length

        def record(done: int) -> None:
            if done < total:  # the end is recorded below, once
                session.record(TransferProgress(item, done, total))

        session.record(PhaseStarted(Phase.COPYING))
        async with aclosing(self._space.move(source, target, length)) as steps:
            async for done in steps:
                record(done)
        if verify:
            session.record(PhaseStarted(Phase.VERIFYING))
            equal = 0
            async with aclosing(self._space.compare(source, target, length)) as steps:
                async for equal in steps:
                    record(length + equal)
            if equal != length:
                raise CopyCorrupted({"equal_bytes": str(equal)})
        session.record(TransferProgress(item, total, total))


def _item(lease: Lease) -> str:
    """What progress calls it."""
    return lease.allocation.label or lease.allocation.allocation_id


def _plan(place: Place, verify: bool, work: Work) -> SessionPlan:
    return SessionPlan(
        kind=SessionKind.MEMORY_TASK,
        device_id=place.device_id,
        expected_phases=(
            Phase.QUEUED,
            Phase.COPYING,
            *((Phase.VERIFYING,) if verify else ()),
        ),
        work=work,
        queue=f"copies to {Place(place.device_id)}",
    )
