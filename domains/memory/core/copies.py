"""Copies and transfers as sessions: moved, verified, cancelled within a chunk."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from domains.errors import FieldViolation, Reason
from domains.memory.core.lending import Lender
from domains.memory.core.progress import Progress
from domains.memory.core.rules import check_copy, check_transfer, length_within
from domains.memory.core.store import Located, MemoryStore, at
from domains.memory.core.uses import Uses
from domains.memory.errors import CopyCorrupted, InvalidMemoryRequest, OffsetOutOfRange
from domains.memory.types import (
    CopyRequest,
    Place,
    TransferRequest,
)
from domains.session.core.plan import SessionPlan, SessionRequest, Work
from domains.session.core.session import Session
from domains.session.types import Phase, PhaseStarted, SessionKind


class Copies:
    """Copies bytes between allocations, and moves allocations between places.

    Copies into one memory wait for each other, in a queue of their own, and never for a
    device's pictures.

    Args:
        uses: Whose memory is where.
        lender: Takes the memory that a transfer moves to.
        store: Moves bytes and compares them.
    """

    def __init__(
        self,
        uses: Uses,
        lender: Lender,
        store: MemoryStore,
    ) -> None:
        self._uses = uses
        self._lender = lender
        self._store = store

    def copy(self, client: str, request: CopyRequest) -> SessionRequest:
        """Copying bytes of one allocation into another one, as a session.

        Preparing it raises:
            InvalidMemoryRequest: The content breaks rules, or source and target overlap.
            AllocationNotFound: One of them is not there.
            OffsetOutOfRange: The bytes do not lie within them.
        """

        async def work(session: Session) -> None:
            await self._copy(session, client, request)

        async def prepare() -> SessionPlan:
            check_copy(request)
            self._extent(client, request)
            place = self._uses.get(client, request.target_id).allocation.place
            return _plan(place, request.verify, work)

        return SessionRequest(request.options, _digest(client, request.digest), prepare)

    def transfer(self, client: str, request: TransferRequest) -> SessionRequest:
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
            self._uses.get(client, request.allocation_id)
            place = await self._lender.resolve(request.place)

            async def work(session: Session) -> None:
                await self._transfer(session, client, replace(request, place=place))

            return _plan(place, request.verify, work)

        return SessionRequest(request.options, _digest(client, request.digest), prepare)

    def _extent(self, client: str, request: CopyRequest) -> int:
        """How many bytes are to be copied, once everything has been checked."""
        source = self._uses.get(client, request.source_id).allocation
        target = self._uses.get(client, request.target_id).allocation
        begin, end = request.source_offset, request.target_offset
        length = length_within("source", begin, request.length, source.size_bytes)
        if end + length > target.size_bytes:
            raise OffsetOutOfRange("target", end, length, target.size_bytes)
        same = source.allocation_id == target.allocation_id
        if same and begin < end + length and end < begin + length:
            rule = "Must not lie within the bytes that are read: they would be overwritten."
            raise InvalidMemoryRequest.of(
                FieldViolation("target_offset_bytes", Reason.FIELDS_CONFLICT, rule)
            )
        return length

    async def _copy(self, session: Session, client: str, request: CopyRequest) -> None:
        length = self._extent(client, request)
        async with self._uses.copying(client, request.source_id, request.target_id) as both:
            source, target = both
            begin = source.allocation.place, at(source.region, request.source_offset)
            end = target.allocation.place, at(target.region, request.target_offset)
            item = source.allocation.label or source.allocation.allocation_id
            await self._moved(session, begin, end, length, item, request.verify)

    async def _transfer(self, session: Session, client: str, request: TransferRequest) -> None:
        assert request.place is not None
        async with self._uses.moving(client, request.allocation_id) as lease:
            before, size = lease.allocation.place, lease.allocation.size_bytes
            if before == request.place:
                return
            taken = await self._lender.take(client, request.place, size)
            try:
                item = lease.allocation.label or lease.allocation.allocation_id
                old, new = (before, lease.region), (taken.place, taken.region)
                await self._moved(session, old, new, size, item, request.verify)
                self._uses.get(client, request.allocation_id)  # its worker may have died
            except BaseException:
                await self._lender.give_up(taken)
                raise
            await self._uses.relocate(lease, taken)

    async def _moved(
        self,
        session: Session,
        source: Located,
        target: Located,
        length: int,
        item: str,
        verify: bool,
    ) -> None:
        progress = Progress(session, item, 2 * length if verify else length)
        session.record(PhaseStarted(Phase.COPYING))
        await _told(self._store.move(source, target, length), progress.tell)
        if verify:
            session.record(PhaseStarted(Phase.VERIFYING))
            await self._verify(source, target, length, lambda d: progress.tell(length + d))
        progress.finish()

    async def _verify(
        self, source: Located, target: Located, length: int, tell: Callable[[int], None]
    ) -> None:
        equal = await _told(self._store.compare(source, target, length), tell)
        if equal != length:
            raise CopyCorrupted({"equal_bytes": str(equal)})


async def _told(steps: AsyncGenerator[int], tell: Callable[[int], None]) -> int:
    """Run the steps and tell of each; returns how far they came."""
    done = 0
    async with aclosing(steps):
        async for done in steps:
            tell(done)
    return done


def _digest(client: str, request: bytes) -> bytes:
    """Requests of two clients are never the same one."""
    return hashlib.sha256(client.encode() + b"\0" + request).digest()


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
