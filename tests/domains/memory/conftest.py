"""The memory domain over real segments, with devices in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from domains.device.core import DeviceInventory
from domains.memory.backends.segments import HostSegments
from domains.memory.core import MemoryMonitor, MemoryService
from domains.memory.core.access import Access
from domains.memory.core.copies import Copies
from domains.memory.core.leases import Leases
from domains.memory.core.ledger import Ledger
from domains.memory.core.lending import Lender
from domains.memory.core.pressure import thresholds
from domains.memory.core.reactions import PressureReactions
from domains.memory.core.room import Room
from domains.memory.core.store import MemoryStore
from domains.memory.core.uses import Uses
from domains.memory.core.watch import PressureWatch
from domains.memory.types import Allocation, AllocationRequest, Place
from domains.session.core.sessions import Sessions
from domains.session.core.tasks import Tasks
from server.errors import failure
from tests.domains.session.conftest import Artifacts
from tests.fakes.device import FakeProbe, FakeWorkers, card
from tests.fakes.memory import FakeBuffers, FakeHost, FakeMeter, FakeModels

HOST = Place()
CPU = Place("cpu:0")
CARD = Place("cuda:0")
OTHER_CARD = Place("cuda:1")
MIB = 1 << 20


class Time:
    """Wall clock and monotonic clock that stand still until they are moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


@dataclass
class System:
    """Every part, to be looked at from outside."""

    service: MemoryService
    sessions: Sessions
    store: MemoryStore
    ledger: Ledger
    inventory: DeviceInventory
    host: FakeHost
    segments: HostSegments
    buffers: FakeBuffers
    meter: FakeMeter
    models: FakeModels
    time: Time

    async def lend(self, place: Place, size: int = MIB, client: str = "ann") -> Allocation:
        """An allocation of a client."""
        wanted = AllocationRequest(place, size)
        return await self.service.leases.allocate(client, wanted)

    def backed(self) -> int:
        """Bytes that segments and buffers really are."""
        return self.segments.lent() + sum(len(data) for data in self.buffers.buffers.values())


def build(quota_bytes: int | None = 0) -> System:
    """Two cards and a processor; 64 GiB of main memory, as far as figures go."""
    time, host, meter, models = Time(), FakeHost(64 << 30, 48 << 30), FakeMeter(), FakeModels()
    inventory = DeviceInventory(FakeProbe(card(0), card(1)), FakeWorkers())
    for device_id in ("cuda:0", "cuda:1"):
        meter.tell(device_id, 1 << 30, 1 << 30)
    segments = HostSegments()
    buffers = FakeBuffers(segments)
    monitor = MemoryMonitor(host, inventory, meter, clock=time.now)
    watch = PressureWatch(monitor, inventory, thresholds(0.8, 0.9, 0.95, 0.05))
    reactions = PressureReactions(watch, models, clock=time.now)
    sessions = Sessions(
        Artifacts(),
        describe_expiry=lambda _: failure(TimeoutError()),
        queue_length=8,
        retention=timedelta(hours=1),
        kept=100,
        heartbeat_seconds=5.0,
        now=time.now,
        admit=reactions.check_work,
    )
    store = MemoryStore(segments, buffers, inventory)
    ledger = Ledger(pool=monitor.pool, monotonic=time.monotonic, now=time.now)
    uses = Uses(ledger, store)
    room = Room(monitor, watch, models)
    lender = Lender(ledger, store, room, monitor, inventory, quota_bytes=quota_bytes)
    leases = Leases(ledger, lender, store, uses, inventory, meter)
    buffers.on_buffers_lost(leases.lose)
    tasks = Tasks(sessions, describe=failure)
    service = MemoryService(
        monitor,
        watch,
        reactions,
        leases,
        Access(uses, store),
        Copies(sessions, tasks, uses, lender, store),
    )
    return System(
        service,
        sessions,
        store,
        ledger,
        inventory,
        host,
        segments,
        buffers,
        meter,
        models,
        time,
    )


@pytest.fixture
async def system() -> AsyncIterator[System]:
    """A system without a quota; nothing of it is left in memory afterwards."""
    made = build()
    await made.inventory.discover()
    yield made
    await made.sessions.stop(0)
    await made.service.leases.close()
    made.segments.close()
