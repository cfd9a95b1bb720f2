"""The model domain, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from domains.device.ports import FactsStore, Place
from domains.loops import Loop
from domains.memory.ports import HostMemoryReader
from domains.model.backends.arena import Arena, arena_bytes
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.weight_reading import ParallelReader
from domains.model.convert import REPORTS
from domains.model.core import Caching, Loads, ModelCatalogue
from domains.model.core.cache import ModelCache
from domains.model.core.cache_budget import CacheBudget
from domains.model.core.cache_memory import CacheMemory
from domains.model.core.cached_runs import CachedRuns
from domains.model.core.residents import CachedResidents
from domains.model.servicer import ModelServicer
from domains.session import build as session_build
from domains.session.jobs import JobRunner

__all__ = ["REPORTS", "Built", "build"]

_LOOK_SECONDS = 10.0
_REVISION_SECONDS = 2.0


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def model_roots(self) -> Sequence[Path]: ...
    @property
    def default_model(self) -> str: ...
    @property
    def model_cache_bytes(self) -> int | None: ...
    @property
    def pressure_elevated(self) -> float: ...


class Devices(Protocol):
    """What is to be known of devices, once they are."""

    def has_own_memory(self, device_id: str) -> bool:
        """Whether a device has memory of its own; empty asks for any device."""
        ...

    def holds(self, device_id: str, model_id: str) -> bool:
        """Whether a device's worker holds a model, as it last told."""
        ...


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it."""

    catalogue: ModelCatalogue
    cache: ModelCache
    cached: CachedResidents
    runs: JobRunner
    """The workers, whose jobs get their models out of the cache."""
    servicer: ModelServicer
    loops: tuple[Loop, ...]


def build(
    settings: Settings,
    pool: JobRunner,
    facts: FactsStore,
    session: session_build.Built,
    main: HostMemoryReader,
    *,
    place: Place,
    devices: Devices,
    now: Callable[[], datetime],
) -> Built:
    """The domain as `settings` describe it; nothing runs yet.

    Args:
        settings: What the operator chose.
        pool: The workers.
        facts: What is known about models from one start of the server to the next.
        session: Where loads wait, and what runs them.
        main: Reads main memory.
        place: Chooses the device for a load.
        devices: Knows the devices; asked when work begins.
        now: The wall clock, timezone-aware.
    """
    catalogue = ModelCatalogue(
        DiskScanner(settings.model_roots), default_model=settings.default_model, clock=now
    )
    cache = ModelCache(
        ParallelReader(),
        CacheMemory(
            CacheBudget(
                facts,
                settings.model_cache_bytes,
                has_cards=lambda: devices.has_own_memory(""),
            ),
            main,
            lambda budget, total: Arena(arena_bytes(budget, total)),
            # The cache alone never makes memory tight.
            spared=1.0 - settings.pressure_elevated,
        ),
        now=now,
    )
    runs = CachedRuns(pool, cache, holds=devices.holds, wants=devices.has_own_memory)
    caching = Caching(catalogue, cache)
    # Files that have not changed are not read again.
    loops = (
        Loop("model catalogue", _LOOK_SECONDS, catalogue.refresh),
        Loop("cached models", _REVISION_SECONDS, caching.revise),
    )
    loads = Loads(place, catalogue, runs, now=now)
    servicer = ModelServicer(catalogue, loads, caching, session.streams)
    return Built(catalogue, cache, CachedResidents(cache), runs, servicer, loops)
