"""The model domain, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from domains.artifact.core import ArtifactStore
from domains.device.core.default import DefaultChoice
from domains.device.ports import DeviceRuns, FactsStore, Place
from domains.device.types import Device
from domains.loops import Loop
from domains.memory.ports import HostMemoryReader, Leaving
from domains.model.backends.arena import Arena, arena_bytes
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.file_hashes import DiskHasher
from domains.model.backends.folder_watch import DiskWatch
from domains.model.backends.import_disk import LocalDisk
from domains.model.backends.model_notes import NoteFiles
from domains.model.backends.new_models import NewModels
from domains.model.backends.removal import DiskRemover
from domains.model.backends.weight_reading import ParallelReader
from domains.model.backends.weight_states import WeightStates
from domains.model.convert import REPORTS
from domains.model.core import (
    Benchmarks,
    Caching,
    Checks,
    Conversions,
    Copies,
    Estimates,
    Imports,
    Loads,
    ModelCatalogue,
    ModelService,
    ModelStatuses,
    ModelUse,
    Optimizing,
    Unloads,
    Upkeep,
)
from domains.model.core.accepted import ModelContents
from domains.model.core.cache import ModelCache
from domains.model.core.cache_budget import CacheBudget
from domains.model.core.cache_events import CacheEvents
from domains.model.core.cache_memory import CacheMemory
from domains.model.core.cached_residents import CachedResidents
from domains.model.core.cached_runs import CachedRuns
from domains.model.core.changes import ModelChanges
from domains.model.core.contents import CatalogueContents
from domains.model.core.hashes import KnownHashes
from domains.model.core.hashing import Hashing
from domains.model.core.looks import Looks
from domains.model.core.preloading import Preload
from domains.model.core.refreshes import Refreshes
from domains.model.core.residents import Resident, Residents
from domains.model.ports import Machine
from domains.model.servicer import ModelServicer
from domains.model.types import Model
from domains.session import build as session_build
from domains.session.jobs import JobRunner, ModelRunner
from domains.session.types import SessionState

__all__ = ["REPORTS", "Built", "Machine", "build"]

_PAUSE_SECONDS = 0.5
_RESIDENTS_SECONDS = 0.5
_SWEEP_SECONDS = 86_400.0
_PRELOAD_SECONDS = 5.0
_REVISION_SECONDS = 2.0


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def model_roots(self) -> Sequence[Path]: ...
    @property
    def read_only_model_roots(self) -> Sequence[Path]: ...
    @property
    def default_model(self) -> str: ...
    @property
    def preload(self) -> bool: ...
    @property
    def convert_pickles(self) -> bool: ...
    @property
    def model_cache_bytes(self) -> int | None: ...
    @property
    def pressure_elevated(self) -> float: ...


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it."""

    catalogue: ModelCatalogue
    contents: ModelContents
    cache: ModelCache
    cached: CachedResidents
    leaving: Leaving
    """Hears why a model leaves a device."""
    runs: ModelRunner
    """The workers, whose jobs get their models out of the cache."""
    servicer: ModelServicer
    loops: tuple[Loop, ...]
    new_models: NewModels
    close: Callable[[], Awaitable[None]]
    """Ends what goes on beside the loops."""


def build(
    settings: Settings,
    pool: DeviceRuns,
    inspectors: JobRunner,
    facts: FactsStore,
    session: session_build.Built,
    main: HostMemoryReader,
    artifacts: ArtifactStore,
    *,
    place: Place,
    machine: Callable[[], Machine],
    now: Callable[[], datetime],
) -> Built:
    """The domain as `settings` describe it; nothing runs yet.

    Args:
        settings: What the operator chose.
        pool: The workers.
        inspectors: Read files that nobody vouches for.
        facts: What is known about models from one start of the server to the next.
        session: Where loads wait, and what runs them.
        main: Reads main memory.
        artifacts: Has the files of models that come in.
        place: Chooses the device for a load.
        machine: The devices and what lies there; asked once the system runs.
        now: The wall clock, timezone-aware.
    """
    changes = ModelChanges(now=now)
    hashes = KnownHashes(facts)
    contents = CatalogueContents(
        DiskScanner(settings.model_roots, read_only=settings.read_only_model_roots),
        changes,
        DefaultChoice(facts, "model.default", settings.default_model),
        sha256_of=hashes.of,
    )
    catalogue = ModelCatalogue(contents, clock=now)

    def held() -> Iterator[Resident]:
        for device in machine().devices.devices:
            figures = pool.figures(device.device_id)
            for component in figures.models if figures else ():
                yield device.device_id, component.model_id

    residents = Residents(contents, held)
    pool.subscribe(residents.worker_changed)
    watch = DiskWatch()
    hashing = Hashing(
        contents,
        hashes,
        DiskHasher(),
        working=lambda: any(
            one.state is SessionState.RUNNING for one in session.sessions.all()
        ),
    )
    states = WeightStates()
    cache = ModelCache(
        ParallelReader(),
        CacheMemory(
            CacheBudget(
                facts,
                settings.model_cache_bytes,
                has_cards=lambda: any(map(_has_own_memory, machine().devices.devices)),
            ),
            main,
            lambda budget, total: Arena(arena_bytes(budget, total)),
            # The cache alone never makes memory tight.
            spared=1.0 - settings.pressure_elevated,
        ),
        states,
        now=now,
        changed=CacheEvents(contents).tell,
    )
    caching = Caching(catalogue, cache)
    runs = CachedRuns(
        pool,
        cache,
        holds=lambda device_id, model_id: (device_id, model_id) in held(),
        wants=lambda device_id: any(
            _has_own_memory(device)
            for device in machine().devices.devices
            if device.device_id == device_id
        ),
        size_of=lambda model_id: _weights(contents.find(model_id)),
    )
    new_models = NewModels(
        [root for root in settings.model_roots if root not in settings.read_only_model_roots]
    )
    disk = LocalDisk()
    copies = Copies(
        *(catalogue, inspectors, new_models),
        id_of=disk.id_of,
        pickles=settings.convert_pickles,
    )
    use = ModelUse(session.sessions)
    estimates = Estimates(session.sessions.speeds)
    benchmarks = Benchmarks(place, catalogue, runs)
    upkeep = Upkeep(
        *(catalogue, contents, NoteFiles(), DiskRemover(), cache, machine, use, pool),
        leaving=residents.leaving,
        read_only=settings.read_only_model_roots,
    )
    service = ModelService(
        catalogue=catalogue,
        changes=changes,
        refreshes=Refreshes(contents),
        caching=caching,
        loads=Loads(place, catalogue, machine, estimates, runs, now=now),
        unloads=Unloads(catalogue, cache, machine, use, pool, leaving=residents.leaving),
        statuses=ModelStatuses(catalogue, cache, machine, use, estimates),
        benchmarks=benchmarks,
        checks=Checks(catalogue, inspectors, place, machine, estimates, runs, session.runner),
        conversions=Conversions(copies),
        optimizing=Optimizing(copies, catalogue, place, benchmarks, runs),
        imports=Imports(
            catalogue,
            artifacts,
            new_models,
            disk,
            pickles=settings.convert_pickles,
        ),
        upkeep=upkeep,
    )

    # The first two wait in their own way.
    loops: tuple[Loop, ...] = (
        Loop("model catalogue", _PAUSE_SECONDS, Looks(contents, watch).run),
        Loop("hashes of models", _PAUSE_SECONDS, hashing.run),
        Loop("models deleted in part", _SWEEP_SECONDS, upkeep.sweep),
        Loop("models on devices", _RESIDENTS_SECONDS, residents.look),
        Loop("cached models", _REVISION_SECONDS, caching.revise),
    )
    if settings.preload:
        preload = Preload(catalogue, machine, estimates, session.sessions, session.runner, runs)
        loops = (*loops, Loop("the default model", _PRELOAD_SECONDS, preload.run))

    servicer = ModelServicer(service, session.streams)
    servicer.register(session.starters)

    async def close() -> None:
        await contents.close()
        await asyncio.to_thread(watch.close)
        await cache.close()

    return Built(
        catalogue,
        ModelContents(catalogue, states, hashing.now),
        cache,
        CachedResidents(cache),
        residents.leaving,
        runs,
        servicer,
        loops,
        new_models,
        close,
    )


def _weights(model: Model | None) -> int:
    return sum(part.size_bytes for part in model.components) if model else 0


def _has_own_memory(device: Device) -> bool:
    # What this machine's main memory keeps is of no use to another machine.
    return not device.traits.in_main_memory and not device.node
