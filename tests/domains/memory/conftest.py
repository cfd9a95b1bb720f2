"""The memory domain over real segments, with devices in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from domains.device.core import DeviceInventory
from domains.errors import NotFound, Reason
from domains.memory.backends.segments import HostSegments
from domains.memory.core import MemoryMonitor, MemoryService
from domains.memory.core.access import Access
from domains.memory.core.copies import Copies
from domains.memory.core.happenings import CountedModels
from domains.memory.core.history import MemoryRecorder
from domains.memory.core.leases import Leases
from domains.memory.core.ledger import Ledger
from domains.memory.core.lending import Lender
from domains.memory.core.model_memory import ModelsInMemory
from domains.memory.core.pressure import thresholds
from domains.memory.core.reactions import PressureReactions
from domains.memory.core.room import Room
from domains.memory.core.store import MemoryStore
from domains.memory.core.uses import Uses
from domains.memory.core.watch import PressureWatch
from domains.memory.types import Allocation, AllocationRequest, MemoryInterval, Place
from domains.session.core.sessions import Sessions
from server.errors import describe_failure
from tests.fakes.device import FakeProbe, FakeWorkers, card
from tests.fakes.memory import FakeBuffers, FakeHost, FakeMeter, FakeModels, measured

HOST = Place()
CPU = Place("cpu:0")
CARD = Place("cuda:0")
OTHER_CARD = Place("cuda:1")
MIB = 1 << 20
USED = datetime(2030, 1, 1, tzinfo=UTC)


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
    probe: FakeProbe
    workers: FakeWorkers
    exhausted: list[Place]

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
    probe, workers = FakeProbe(card(0), card(1)), FakeWorkers()
    exhausted: list[Place] = []
    inventory = DeviceInventory(probe, workers)
    for device_id in ("cuda:0", "cuda:1"):
        meter.tell(device_id, 1 << 30, 1 << 30)
    segments = HostSegments()
    buffers = FakeBuffers(segments)
    monitor = MemoryMonitor(host, inventory, meter, clock=time.now)
    watch = PressureWatch(monitor, inventory, thresholds(0.8, 0.9, 0.95, 0.05))
    reactions = PressureReactions(watch, models, clock=time.now)
    sessions = Sessions(
        describe=describe_failure,
        queue_length=8,
        retention=timedelta(hours=1),
        kept=100,
        now=time.now,
        admit=reactions.check_work,
    )
    store = MemoryStore(segments, buffers, inventory)
    ledger = Ledger(pool=monitor.pool, monotonic=time.monotonic, now=time.now)
    uses = Uses(ledger, store)
    room = Room(monitor, watch, models)
    lender = Lender(ledger, store, room, monitor, inventory, quota_bytes=quota_bytes)
    leases = Leases(ledger, lender, store, uses, inventory, meter, exhausted=exhausted.append)
    buffers.on_buffers_lost(leases.lose)
    service = MemoryService(
        monitor,
        watch,
        reactions,
        leases,
        Access(uses, store),
        Copies(uses, lender, store),
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
        probe,
        workers,
        exhausted,
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


@dataclass
class Store:
    """A journal in memory."""

    kept: list[MemoryInterval] = field(default_factory=list)
    writes: int = 0

    def history(self) -> Sequence[MemoryInterval]:
        return self.kept

    def write_history(
        self, intervals: Sequence[MemoryInterval], *, keep: Mapping[int, int]
    ) -> object:
        self.writes += 1
        self.kept += intervals
        return None


async def find(model_id: str) -> object:
    if model_id != "known":
        raise NotFound("no such model", reason=Reason.MODEL_NOT_FOUND)
    return model_id


@pytest.fixture
def recorder(system: System) -> MemoryRecorder:
    return MemoryRecorder(
        system.service.monitor,
        system.meter,
        system.inventory,
        Store(),
        host_leases=system.segments.lent,
        now=lambda: system.time.now().timestamp(),
    )


@pytest.fixture
def models(system: System, recorder: MemoryRecorder) -> ModelsInMemory:
    """Model memory of a card whose released models become free memory."""

    def grow(model_id: str) -> None:
        figures = system.meter.figures("cuda:0")
        assert figures is not None
        free = measured((figures.free.value or 0) + 100)
        system.meter.known["cuda:0"] = structs.replace(figures, free=free)

    system.models.on_release = grow
    return ModelsInMemory(
        system.service.monitor,
        system.inventory,
        CountedModels(system.models, recorder),
        find=find,
    )


def hold(system: System, *names: str, in_use: Sequence[str] = ()) -> None:
    """Models of 100 bytes on the first card, the first the least recently used."""
    system.meter.tell("cuda:0", 1000, 200)
    for age, name in enumerate(names):
        used = USED + timedelta(seconds=age)
        system.models.hold("cuda:0", name, 100, used=used, in_use=name in in_use)
