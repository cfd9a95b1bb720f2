"""The device domain, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from domains.device.backends.probe_processes import ProbeProcesses
from domains.device.backends.telemetry import PlatformTelemetry
from domains.device.convert import REPORTS
from domains.device.core import DeviceInventory, DeviceService
from domains.device.core.changes import DeviceChanges
from domains.device.core.machines import AllMachines
from domains.device.core.optimizations import Optimizations
from domains.device.core.placement import Placer
from domains.device.core.profiles import DeviceProfiles
from domains.device.core.rediscovery import Rediscovery
from domains.device.core.restarts import Restarts
from domains.device.core.self_tests import SelfTests
from domains.device.core.status import DeviceMonitor
from domains.device.ports import (
    DeviceProbe,
    DeviceRuns,
    FactsStore,
    MainMemoryReader,
    Models,
    OtherMachines,
    Workers,
)
from domains.device.servicer import DeviceServicer
from domains.device.types import DeviceKind
from domains.loops import Loop
from domains.session import build as session_build
from domains.session.jobs import ModelRunner

__all__ = ["REPORTS", "Built", "build"]

_AFTER_FAILURE_SECONDS = 5.0


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def default_device(self) -> str: ...
    @property
    def device_refresh_seconds(self) -> float: ...


class Pool(Workers, DeviceRuns, Protocol):
    """The worker processes and what they do for this domain."""


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it."""

    inventory: DeviceInventory
    profiles: DeviceProfiles
    self_tests: SelfTests
    placer: Placer
    servicer: DeviceServicer
    loops: tuple[Loop, ...]


def build(
    settings: Settings,
    interpreters: Mapping[DeviceKind, Path],
    pool: Pool,
    facts: FactsStore,
    session: session_build.Built,
    models: Models,
    main_memory: MainMemoryReader,
    loads: ModelRunner,
    *,
    others: OtherMachines | None = None,
    now: Callable[[], datetime],
) -> Built:
    """The domain as `settings` describe it; nothing runs yet.

    Args:
        settings: What the operator chose.
        interpreters: For kinds whose drivers need a Python of their own.
        pool: The workers.
        facts: What is known about devices from one start of the server to the next.
        session: Where work on devices waits, and what runs it.
        models: What a device is measured with.
        main_memory: Main memory, of which a processor's is a part.
        loads: The workers, whose jobs get their models where they are to be had fastest.
        others: Looks for devices of other machines; None where there are none.
        now: The wall clock, timezone-aware.
    """
    probe: DeviceProbe = ProbeProcesses(interpreters)
    if others is not None:
        probe = AllMachines(probe, others)
    profiles = DeviceProfiles(facts)
    inventory = DeviceInventory(
        probe,
        pool,
        facts=facts,
        default_device=settings.default_device,
        now=now,
    )
    self_tests = SelfTests(inventory, session.runner, pool, pool, facts)
    service = DeviceService(
        inventory,
        DeviceMonitor(
            inventory,
            pool,
            pool,
            session.sessions,
            profiles,
            PlatformTelemetry(),
            main_memory,
        ),
        self_tests,
        DeviceChanges(inventory, pool, now=now),
        Optimizations(inventory, models, pool, loads, profiles),
        Restarts(inventory, pool, pool),
    )
    rediscovery = Rediscovery(
        inventory,
        pool,
        pool,
        busy=lambda: any(
            session.sessions.queue(d.device_id).running for d in inventory.devices
        ),
        interval=settings.device_refresh_seconds,
    )
    # It goes on without end by itself, and waits in its own way.
    loops = (Loop("looking for devices", _AFTER_FAILURE_SECONDS, rediscovery.run),)
    servicer = DeviceServicer(service, session.streams)
    servicer.register(session.starters)
    return Built(
        inventory,
        profiles,
        self_tests,
        Placer(inventory, pool, session.sessions, tflops=self_tests.tflops),
        servicer,
        loops,
    )
