"""The memory domain over real segments, with devices in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from domains.clients import Caller, Role
from domains.device.core import DeviceInventory
from domains.device.types import OptimizationProfile
from domains.errors import NotFound, Reason
from domains.memory.backends.segments import HostSegments
from domains.memory.core import MemoryMonitor, MemoryService
from domains.memory.core.access import Access
from domains.memory.core.address_space import AddressSpace
from domains.memory.core.adviser import MemoryAdviser
from domains.memory.core.copies import Copies
from domains.memory.core.defragment import Defragmentation
from domains.memory.core.headroom import Headroom
from domains.memory.core.leases import Leases
from domains.memory.core.ledger import Ledger
from domains.memory.core.model_memory import ModelsInMemory
from domains.memory.core.models import HeldModels
from domains.memory.core.pressure import thresholds
from domains.memory.core.reactions import PressureReactions
from domains.memory.core.recorder import MemoryRecorder
from domains.memory.core.watch import PressureWatch
from domains.memory.types import Allocation, AllocationRequest, Place
from domains.session.core.sessions import Sessions
from domains.uploads import Uploads
from server.errors import describe_failure
from tests.clocks import SteeredTime
from tests.domains.sessions import changes_of
from tests.fakes.device import FakeProbe, FakeWorkers, card
from tests.fakes.memory import (
    FakeBuffers,
    FakeCached,
    FakeHistory,
    FakeHost,
    FakeMeter,
    FakeModels,
    measured,
)

HOST = Place()
CPU = Place("cpu:0")
CARD = Place("cuda:0")
OTHER_CARD = Place("cuda:1")
MIB = 1 << 20
USED = datetime(2030, 1, 1, tzinfo=UTC)
ANN, BOB = Caller("ann", Role.RUN), Caller("bob", Role.RUN)
ADMIN = Caller("root", Role.ADMIN)


async def find(model_id: str) -> object:
    if model_id != "known":
        raise NotFound("no such model", reason=Reason.MODEL_NOT_FOUND)
    return model_id


@dataclass
class System:
    """Every part, to be looked at from outside."""

    service: MemoryService
    reactions: PressureReactions
    sessions: Sessions
    space: AddressSpace
    ledger: Ledger
    inventory: DeviceInventory
    host: FakeHost
    segments: HostSegments
    buffers: FakeBuffers
    meter: FakeMeter
    models: FakeModels
    cached: FakeCached
    time: SteeredTime
    probe: FakeProbe
    workers: FakeWorkers
    exhausted: list[Place]
    uploads: Uploads

    async def lend(self, place: Place, size: int = MIB, caller: Caller = ANN) -> Allocation:
        """An allocation of a client."""
        return await self.service.leases.create(caller, AllocationRequest(place, size))

    def backed(self) -> int:
        """Bytes that segments and buffers really are."""
        return self.segments.leased_bytes() + sum(
            len(data) for data in self.buffers.buffers.values()
        )


def build(quota_bytes: int | None = 0) -> System:
    """Two cards and a processor; 64 GiB of main memory, as far as figures go."""
    time, host, meter, models = (
        SteeredTime(),
        FakeHost(64 << 30, 48 << 30),
        FakeMeter(),
        FakeModels(),
    )
    probe, workers = FakeProbe(card(0), card(1)), FakeWorkers()
    exhausted: list[Place] = []
    inventory = DeviceInventory(probe, workers)
    for device_id in ("cuda:0", "cuda:1"):
        meter.tell(device_id, 1 << 30, 1 << 30)
    cached = FakeCached()
    segments = HostSegments()
    buffers = FakeBuffers(segments)
    monitor = MemoryMonitor(host, inventory, meter, clock=time.clock.wall)
    watch = PressureWatch(
        monitor, inventory, thresholds(0.8, 0.9, 0.95, 0.05), now=time.clock.wall
    )
    recorder = MemoryRecorder(
        monitor,
        meter,
        inventory,
        FakeHistory(),
        host_leases=segments.leased_bytes,
        cached=cached.components,
        now=lambda: time.moment.timestamp(),
    )
    held = HeldModels(
        inventory, models, cached, leaving=models.leaving, evicted=recorder.count_eviction
    )
    reactions = PressureReactions(watch, held, clock=time.clock)
    sessions = Sessions(
        describe=describe_failure,
        queue_length=8,
        slice_seconds=30.0,
        retention=timedelta(hours=1),
        kept=100,
        clock=time.clock,
        changes=changes_of(time.clock),
        admit=reactions.check_work,
    )
    space = AddressSpace(segments, buffers, inventory)
    ledger = Ledger(pool=monitor.pool, monotonic=time.clock.monotonic, now=time.clock.wall)
    leases = Leases(
        ledger,
        space,
        Headroom(monitor, watch, held),
        inventory,
        meter,
        quota_bytes=quota_bytes,
        exhausted=exhausted.append,
    )
    buffers.on_buffers_lost(leases.lose)
    uploads = Uploads(time.clock)
    service = MemoryService(
        monitor,
        watch,
        leases,
        Access(ledger, space, uploads),
        Copies(ledger, leases, space),
        Defragmentation(inventory, models, buffers, monitor),
        ModelsInMemory(monitor, inventory, held, find=find),
        recorder,
        MemoryAdviser(
            recorder,
            monitor,
            held,
            half_precision=lambda device_id: device_id == "cuda:0",
            profile=lambda _: OptimizationProfile.BALANCED,
            clock=time.clock.wall,
        ),
    )
    return System(
        service,
        reactions,
        sessions,
        space,
        ledger,
        inventory,
        host,
        segments,
        buffers,
        meter,
        models,
        cached,
        time,
        probe,
        workers,
        exhausted,
        uploads,
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


@pytest.fixture
def recorder(system: System) -> MemoryRecorder:
    return system.service.recorder


@pytest.fixture
def models(system: System) -> ModelsInMemory:
    """Model memory of a card whose released models become free memory."""

    def grow(model_id: str) -> None:
        figures = system.meter.figures("cuda:0")
        assert figures is not None
        free = measured((figures.free.value or 0) + 100)
        system.meter.known["cuda:0"] = structs.replace(figures, free=free)

    system.models.on_release = grow
    return system.service.models


def hold(system: System, *names: str, in_use: Sequence[str] = ()) -> None:
    """Models of 100 bytes on the first card, the first the least recently used."""
    system.meter.tell("cuda:0", 1000, 200)
    for age, name in enumerate(names):
        used = USED + timedelta(seconds=age)
        system.models.hold("cuda:0", name, 100, used=used, in_use=name in in_use)
