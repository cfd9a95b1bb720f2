"""A device domain whose probe, workers and runs are stand-ins; sessions are real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domains.clock import Clock
from domains.device.core import DeviceInventory, DeviceService
from domains.device.core.changes import DeviceChanges
from domains.device.core.facts import TransientFacts
from domains.device.core.optimizations import Optimizations
from domains.device.core.profiles import DeviceProfiles
from domains.device.core.restarts import Restarts
from domains.device.core.self_tests import SelfTests
from domains.device.core.status import DeviceMonitor
from domains.errors import NotFound, Reason
from domains.session.core.sessions import Sessions
from domains.values import ByteFigure, ModelPlace
from server.errors import describe_failure
from tests.domains.sessions import changes_of, runner_of
from tests.fakes.device import FakeProbe, FakeWorkers, card
from tests.fakes.device_runs import FakeRuns, FakeTelemetry

_TOTAL = ByteFigure.measured(16 << 30, "main.total")
_AVAILABLE = ByteFigure.measured(10 << 30, "main.available")
_OURS = ByteFigure.measured(2 << 30, "main.used")


@dataclass(frozen=True)
class FakeModel:
    """A model in a folder that nobody opens."""

    model_id: str
    place: ModelPlace = field(default_factory=lambda: ModelPlace.of(Path("models/fake")))


class FakeModels:
    """Knows `emoji` and `style`; the first is the default."""

    async def resolve(self, model_id: str) -> FakeModel:
        if model_id not in ("", "emoji", "style"):
            raise NotFound("There is no such model.", reason=Reason.MODEL_NOT_FOUND)
        return FakeModel(model_id or "emoji")


@dataclass(frozen=True)
class FakeMainMemory:
    """16 GiB, of which 10 are available and 2 are this server's."""

    total: ByteFigure = _TOTAL
    available: ByteFigure = _AVAILABLE
    used_by_server: ByteFigure = _OURS

    def read(self) -> FakeMainMemory:
        return self


@dataclass
class Domain:
    """The domain and the stand-ins behind it."""

    sessions: Sessions
    facts: TransientFacts = field(default_factory=TransientFacts)
    probe: FakeProbe = field(default_factory=lambda: FakeProbe(card(0, hardware_id="GPU-1")))
    workers: FakeWorkers = field(default_factory=FakeWorkers)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    configured: str = ""
    heartbeat_seconds: float = 5.0
    runs: FakeRuns = field(init=False)
    service: DeviceService = field(init=False)

    def __post_init__(self) -> None:
        self.runs = FakeRuns(self.workers)
        self.service = self.build()

    def build(self) -> DeviceService:
        """The domain as a server that starts now would have it; facts are what is kept."""
        runs, workers = self.runs, self.workers
        inventory = DeviceInventory(
            self.probe, workers, facts=self.facts, default_device=self.configured
        )
        runner = runner_of(self.sessions)
        profiles = DeviceProfiles(self.facts)
        return DeviceService(
            inventory,
            DeviceMonitor(
                inventory,
                workers,
                runs,
                self.sessions,
                profiles,
                self.telemetry,
                FakeMainMemory(),
                patience=0.05,
            ),
            SelfTests(inventory, runner, runs, workers, self.facts),
            DeviceChanges(inventory, runs, now=_now, heartbeat_seconds=self.heartbeat_seconds),
            Optimizations(inventory, FakeModels(), runs, runs, profiles),
            Restarts(inventory, runs, workers),
        )


@pytest.fixture
async def sessions() -> AsyncIterator[Sessions]:
    """Real sessions, with room for two that wait in each queue."""
    registry = Sessions(
        describe=describe_failure,
        queue_length=2,
        slice_seconds=30.0,
        retention=timedelta(seconds=60),
        kept=100,
        clock=Clock(),
        changes=changes_of(Clock()),
    )
    yield registry
    await registry.stop(0)


@pytest.fixture
def domain(sessions: Sessions) -> Domain:
    """A processor and one card, `cuda:0`."""
    return Domain(sessions)


@pytest.fixture
def make_domain(sessions: Sessions) -> Callable[..., Domain]:
    """Domains that differ from the usual one."""
    return lambda **changes: Domain(sessions, **changes)


def _now() -> datetime:
    return datetime.now(UTC)
