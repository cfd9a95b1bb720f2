"""The whole system, as constructor calls in the order of dependence."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import ArtifactStore
from domains.artifact.servicer import ArtifactServicer
from domains.device.backends.probe_processes import ProbeProcesses
from domains.device.backends.telemetry import PlatformTelemetry
from domains.device.convert import REPORTS as DEVICE_REPORTS
from domains.device.core import DeviceInventory, DeviceService
from domains.device.core.changes import DeviceChanges
from domains.device.core.optimizations import Optimizations
from domains.device.core.profiles import DeviceProfiles
from domains.device.core.rediscovery import Rediscovery
from domains.device.core.restarts import Restarts
from domains.device.core.self_tests import SelfTests
from domains.device.core.status import DeviceMonitor
from domains.device.servicer import DeviceServicer
from domains.device.types import DeviceKind
from domains.inference.core.capabilities import CapabilityInquiry
from domains.inference.core.generations import Generations
from domains.inference.core.validation import MAX_SEED
from domains.inference.servicer import InferenceServicer
from domains.memory.backends.host import HostMemoryMeter
from domains.memory.backends.segments import HostSegments
from domains.memory.convert.upkeep import REPORTS as MEMORY_REPORTS
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
from domains.memory.servicer import MemoryServicer
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.core import ModelCatalogue
from domains.model.servicer import ModelServicer
from domains.postprocessing.core import PostprocessorInventory
from domains.postprocessing.servicer import PostprocessingServicer
from domains.processing.core import SessionControl
from domains.processing.servicer import ProcessingServicer
from domains.session.convert import SessionConverter, SessionStreams
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.sessions import Sessions
from server.config import Settings
from server.errors import describe_failure
from server.journal import Journal
from server.worker.front.pool import WorkerOptions, WorkerPool
from server.worker.front.timing import WorkerTiming

_CATALOGUE_SECONDS = 10.0
_MEMORY_SECONDS = 0.5
_RELIEF_SECONDS = 1.0
_HISTORY_SECONDS = 1.0

_log = structlog.get_logger("deviceops.compose")


@dataclass(frozen=True)
class Composition:
    """The seven servicers, and what is started and stopped behind them."""

    device: DeviceServicer
    memory: MemoryServicer
    model: ModelServicer
    processing: ProcessingServicer
    inference: InferenceServicer
    postprocessing: PostprocessingServicer
    artifact: ArtifactServicer
    _inventory: DeviceInventory
    _rediscovery: Rediscovery
    _catalogue: ModelCatalogue
    _sessions: Sessions
    _artifacts: ArtifactStore
    _pool: WorkerPool
    _memory: MemoryService
    _reactions: PressureReactions
    _exhaustion: ExhaustionWatch
    _segments: HostSegments
    _journal: Journal
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Start everything; workers, discovery and the catalogue get ready by themselves."""
        await asyncio.to_thread(self._journal.open)
        await self._artifacts.start()
        self._sessions.start()
        await self._pool.start(self._inventory.devices)
        for work in (
            self._rediscovery.run(),
            self._keep_catalogue(),
            self._keep_memory(),
            self._relieve_memory(),
            self._keep_history(),
        ):
            task = asyncio.create_task(_reported(work))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def stop(self, grace_seconds: float) -> None:
        """Let sessions end within the grace; then end workers and discovery."""
        await self._sessions.stop(grace_seconds)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._inventory.close()
        await self._catalogue.close()
        await self._memory.leases.close()
        await self._pool.stop(0)
        self._segments.close()
        await asyncio.to_thread(self._journal.close)

    async def _keep_catalogue(self) -> None:
        """See model files come and go; unchanged ones are not read again."""
        while True:
            await _reported(self._catalogue.refresh())
            await asyncio.sleep(_CATALOGUE_SECONDS)

    async def _keep_memory(self) -> None:
        """See pressure rise and fall, and give back what nobody renewed."""
        while True:
            await _reported(self._memory.watch.sample())
            await _reported(self._memory.leases.sweep())
            await asyncio.sleep(_MEMORY_SECONDS)

    async def _keep_history(self) -> None:
        """Have the history of memory go on."""
        while True:
            self._exhaustion.look()
            await _reported(self._memory.recorder.sample())
            await asyncio.sleep(_HISTORY_SECONDS)

    async def _relieve_memory(self) -> None:
        """Let models go under pressure; a busy worker keeps nobody but this waiting."""
        while True:
            await _reported(self._reactions.relieve())
            await asyncio.sleep(_RELIEF_SECONDS)


async def _reported(work: Awaitable[object]) -> None:
    try:
        await work
    except Exception:
        _log.exception("background_work_failed")


def compose(settings: Settings) -> Composition:
    """Build the system that `settings` describe; nothing runs yet."""
    interpreters = {DeviceKind(kind): path for kind, path in settings.worker_python.items()}

    journal = Journal(settings.data_dir / "journal.sqlite")
    profiles = DeviceProfiles(journal)
    pool = WorkerPool(
        WorkerOptions(
            spool_dir=settings.data_dir / "spool",
            python=interpreters,
            log_level=settings.log_level,
            timing=WorkerTiming(
                start=settings.worker_start_seconds,
                cancel_grace=settings.cancel_grace_seconds,
                hang=settings.hang_seconds,
            ),
            hang={DeviceKind.CPU: settings.cpu_hang_seconds},
        ),
        profile_of=profiles.of,
    )
    inventory = DeviceInventory(
        ProbeProcesses(interpreters),
        pool,
        facts=journal,
        default_device=settings.default_device,
        now=_now,
    )
    segments = HostSegments()
    host_memory = HostMemoryMeter(segments.leased_bytes)
    memory = MemoryMonitor(host_memory, inventory, pool, clock=_now)
    watch = PressureWatch(
        memory,
        inventory,
        thresholds(
            settings.pressure_elevated,
            settings.pressure_high,
            settings.pressure_critical,
            settings.pressure_hysteresis,
        ),
    )
    recorder = MemoryRecorder(
        memory, pool, inventory, journal, host_leases=segments.leased_bytes, now=time.time
    )
    held = HeldModels(inventory, pool, evicted=recorder.count_eviction)
    reactions = PressureReactions(watch, held, clock=_now)
    catalogue = ModelCatalogue(
        DiskScanner(settings.model_roots), default_model=settings.default_model, clock=_now
    )
    artifacts = ArtifactStore(
        ArtifactFolder(settings.data_dir / "artifacts"),
        quota_bytes=settings.artifact_quota_bytes,
        retention=timedelta(seconds=settings.artifact_retention_seconds),
        now=_now,
    )
    sessions = Sessions(
        describe=describe_failure,
        queue_length=settings.queue_length_per_device,
        retention=timedelta(seconds=settings.session_retention_seconds),
        kept=settings.sessions_kept,
        now=_now,
        admit=reactions.check_work,
    )
    reader = SessionReader(artifacts, heartbeat_seconds=settings.heartbeat_seconds, now=_now)
    runner = SessionRunner(sessions, reader)
    converter = SessionConverter({**DEVICE_REPORTS, **MEMORY_REPORTS})
    streams = SessionStreams(runner, converter)
    generations = Generations(
        sessions,
        inventory,
        catalogue,
        pool,
        artifacts,
        describe=describe_failure,
        random_seed=lambda: secrets.randbelow(MAX_SEED + 1),
        software_versions=lambda device_id: pool.status(device_id).software_versions,
    )
    space = AddressSpace(segments, pool, inventory)
    ledger = Ledger(pool=memory.pool, monotonic=time.monotonic, now=_now)
    leases = Leases(
        ledger,
        space,
        Headroom(memory, watch, held),
        inventory,
        pool,
        quota_bytes=settings.allocation_quota_bytes,
        exhausted=recorder.count_out_of_memory,
    )
    pool.on_buffers_lost(leases.lose)
    device = DeviceService(
        inventory,
        DeviceMonitor(
            inventory, pool, pool, sessions, profiles, PlatformTelemetry(), host_memory
        ),
        SelfTests(inventory, runner, pool, pool, journal),
        DeviceChanges(inventory, pool, now=_now),
        Optimizations(inventory, catalogue, pool, profiles),
        Restarts(inventory, pool, pool),
    )
    memory_service = MemoryService(
        memory,
        watch,
        leases,
        Access(ledger, space),
        Copies(ledger, leases, space),
        Defragmentation(inventory, pool, pool, memory),
        ModelsInMemory(memory, inventory, held, find=catalogue.get),
        recorder,
        MemoryAdviser(
            recorder,
            memory,
            held,
            half_precision=device.self_tests.half_precision,
            profile=profiles.of,
            clock=_now,
        ),
    )
    rediscovery = Rediscovery(
        inventory,
        pool,
        pool,
        busy=lambda: any(sessions.queue(d.device_id).running for d in inventory.devices),
        interval=settings.device_refresh_seconds,
    )
    return Composition(
        device=DeviceServicer(device, streams),
        memory=MemoryServicer(memory_service, streams),
        model=ModelServicer(catalogue),
        processing=ProcessingServicer(sessions, SessionControl(sessions), reader, converter),
        inference=InferenceServicer(
            generations, CapabilityInquiry(inventory, catalogue), streams
        ),
        postprocessing=PostprocessingServicer(PostprocessorInventory()),
        artifact=ArtifactServicer(artifacts),
        _inventory=inventory,
        _rediscovery=rediscovery,
        _catalogue=catalogue,
        _sessions=sessions,
        _artifacts=artifacts,
        _pool=pool,
        _memory=memory_service,
        _reactions=reactions,
        _exhaustion=ExhaustionWatch(sessions, recorder),
        _segments=segments,
        _journal=journal,
    )


def _now() -> datetime:
    return datetime.now(UTC)
