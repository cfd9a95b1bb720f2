"""The memory domain, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from domains.clock import Clock
from domains.device import build as device_build
from domains.device.ports import DeviceRuns
from domains.loops import Loop
from domains.memory.backends.host import HostMemoryMeter
from domains.memory.backends.segments import HostSegments
from domains.memory.convert.upkeep import REPORTS
from domains.memory.core import MemoryMonitor, MemoryService
from domains.memory.core.access import Access
from domains.memory.core.address_space import AddressSpace
from domains.memory.core.adviser import MemoryAdviser
from domains.memory.core.copies import Copies
from domains.memory.core.defragment import Defragmentation
from domains.memory.core.exhaustion import ExhaustionWatch
from domains.memory.core.headroom import Headroom
from domains.memory.core.leases import Leases
from domains.memory.core.ledger import Ledger
from domains.memory.core.model_memory import ModelsInMemory
from domains.memory.core.models import HeldModels
from domains.memory.core.pressure import thresholds
from domains.memory.core.reactions import PressureReactions
from domains.memory.core.recorder import MemoryRecorder
from domains.memory.core.watch import PressureWatch
from domains.memory.ports import CachedModels, DeviceBuffers, DeviceMeter, HistoryStore, Leaving
from domains.memory.servicer import MemoryServicer
from domains.session import build as session_build
from domains.uploads import Uploads

__all__ = ["REPORTS", "Built", "MainMemory", "build", "main_memory"]

_LOOK_SECONDS = 0.5
_RELIEF_SECONDS = 1.0
_HISTORY_SECONDS = 1.0


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def allocation_quota_bytes(self) -> int | None: ...
    @property
    def pressure_elevated(self) -> float: ...
    @property
    def pressure_high(self) -> float: ...
    @property
    def pressure_critical(self) -> float: ...
    @property
    def pressure_hysteresis(self) -> float: ...


class Pool(DeviceRuns, DeviceMeter, DeviceBuffers, Protocol):
    """The worker processes and what they do for this domain."""

    def on_buffers_lost(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Have `listener` called with the device whose worker and buffers are gone."""
        ...


@dataclass(frozen=True)
class MainMemory:
    """Main memory: what is allocated of it, and how much there is."""

    segments: HostSegments
    meter: HostMemoryMeter


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it."""

    monitor: MemoryMonitor
    models: HeldModels
    reactions: PressureReactions
    leases: Leases
    held_by: Callable[[str], int]
    """Bytes of the leases of the client of that name."""
    servicer: MemoryServicer
    loops: tuple[Loop, ...]


def main_memory(cached: Callable[[], int]) -> MainMemory:
    """The part that needs no device; devices are measured with it.

    Args:
        cached: Bytes of models that main memory keeps to be loaded.
    """
    segments = HostSegments()
    meter = HostMemoryMeter(lambda: segments.leased_bytes() + cached())
    return MainMemory(segments, meter)


def build(
    settings: Settings,
    main: MainMemory,
    pool: Pool,
    store: HistoryStore,
    session: session_build.Built,
    device: device_build.Built,
    uploads: Uploads,
    cached: CachedModels,
    *,
    leaving: Leaving,
    find_model: Callable[[str], Awaitable[object]],
    clock: Clock,
) -> Built:
    """The domain as `settings` describe it; nothing runs yet.

    Args:
        settings: What the operator chose.
        main: Main memory.
        pool: The workers.
        store: Keeps the history of memory.
        session: What runs copies and the like, and whose failures are counted.
        device: The machine's devices, what they can do and run with.
        uploads: Takes in what clients write into allocations.
        cached: Models that main memory keeps to be loaded.
        leaving: Hears why a model leaves a device.
        find_model: Raises when there is no model of that id.
        clock: The time.
    """
    devices = device.inventory
    monitor = MemoryMonitor(main.meter, devices, pool, clock=clock.wall)
    watch = PressureWatch(
        monitor,
        devices,
        thresholds(
            settings.pressure_elevated,
            settings.pressure_high,
            settings.pressure_critical,
            settings.pressure_hysteresis,
        ),
        now=clock.wall,
    )
    recorder = MemoryRecorder(
        monitor,
        pool,
        devices,
        store,
        host_leases=main.segments.leased_bytes,
        cached=cached.components,
        now=lambda: clock.wall().timestamp(),
    )
    models = HeldModels(devices, pool, cached, leaving=leaving, evicted=recorder.count_eviction)
    reactions = PressureReactions(watch, models, clock=clock)
    space = AddressSpace(main.segments, pool, devices)
    ledger = Ledger(pool=monitor.pool, monotonic=clock.monotonic, now=clock.wall)
    leases = Leases(
        ledger,
        space,
        Headroom(monitor, watch, models),
        devices,
        pool,
        quota_bytes=settings.allocation_quota_bytes,
        exhausted=recorder.count_out_of_memory,
    )
    pool.on_buffers_lost(leases.lose)
    service = MemoryService(
        monitor,
        watch,
        leases,
        Access(ledger, space, uploads),
        Copies(ledger, leases, space),
        Defragmentation(devices, pool, pool, monitor),
        ModelsInMemory(monitor, devices, models, find=find_model),
        recorder,
        MemoryAdviser(
            recorder,
            monitor,
            models,
            half_precision=device.self_tests.half_precision,
            profile=device.profiles.of,
            clock=clock.wall,
        ),
    )
    failures = ExhaustionWatch(session.sessions, recorder, since=clock.wall())

    async def record() -> None:
        failures.look()
        await recorder.sample()

    loops = (
        Loop("memory pressure", _LOOK_SECONDS, watch.sample),
        Loop("expired leases", _LOOK_SECONDS, leases.sweep),
        # Apart from the look at pressure: it waits for workers that are busy.
        Loop("relief of memory", _RELIEF_SECONDS, reactions.relieve),
        Loop("history of memory", _HISTORY_SECONDS, record),
    )
    servicer = MemoryServicer(service, session.streams)
    servicer.register(session.starters)
    return Built(monitor, models, reactions, leases, ledger.held_by, servicer, loops)
