"""What tests of worker processes share: devices, work, pools of scripted and rogue workers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from domains.device.types import Device, DeviceKind, DeviceState, WorkerStatus
from domains.errors import DomainError
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    Scheduler,
    SchedulerSettings,
)
from domains.session.jobs import JobEvent, SpooledImage
from domains.values import ByteFigure, ModelPlace
from server.worker.front.pool import WorkerOptions, WorkerPool
from server.worker.front.restart import RestartRules
from server.worker.front.timing import WorkerTiming

PATIENCE = 120.0  # never waited for, except on a machine that is very busy
DEVICE = Device("cpu:0", DeviceKind.CPU, "CPU", "Maker", "cpu", ByteFigure.unknown("a test"))
SECOND = Device("cpu:1", DeviceKind.CPU, "CPU", "Maker", "cpu", ByteFigure.unknown("a test"))
QUICK = WorkerTiming(cancel_grace=0.3, exit=2.0)
# Takes a fraction of a second on an idle machine; whatever waits for a worker's silence to
# be noticed takes longer.
SOON = 20.0
assert min(QUICK.beat, QUICK.hang) > SOON
# Deaths do not add up to a quarantine unless a test is about that.
LENIENT = RestartRules(
    first_delay=0.05, longest_delay=0.05, deaths=100, poison_deaths=100, model_deaths=100
)


def scripted(*arguments: str) -> list[str]:
    """Starts the product's worker around a scripted engine."""
    return [sys.executable, "-m", "tests.fakes.scripted_worker", *arguments]


def rogue(how: str) -> list[str]:
    """Starts a worker that breaks one rule of the link."""
    return [sys.executable, "-m", "tests.fakes.rogue_worker", how]


def work(prompt: str = "draw", **changes: object) -> GenerationJob:
    """Work for a scripted engine: what to do, and two pictures."""
    values: dict[str, object] = {
        "model_id": "model",
        "prompt": prompt,
        "width": 256,
        "height": 320,
        "steps": 4,
        "guidance": GuidanceSettings(1.0),
        "scheduler": SchedulerSettings(Scheduler.DDIM),
        "seeds": (7, 8),
    }
    settings = GenerationSettings(**(values | changes))  # type: ignore[arg-type]
    return GenerationJob(settings, ModelPlace.of(Path("model")))


@dataclass
class Outcome:
    """Everything a run gave."""

    events: list[JobEvent] = field(default_factory=list)
    report: GenerationReport | None = None
    paused: PausedGeneration | None = None
    error: DomainError | None = None

    def raised(self, kind: type[DomainError]) -> DomainError:
        """The error, which must be of that very kind."""
        assert self.error is not None, f"nothing was raised; the report is {self.report}"
        assert isinstance(self.error, kind), repr(self.error)
        return self.error

    @property
    def images(self) -> list[SpooledImage]:
        """The finished pictures."""
        return [event for event in self.events if isinstance(event, SpooledImage)]


async def outcome(
    pool: WorkerPool,
    prompt: str | GenerationJob = "draw",
    *,
    session_id: str = "session",
    remaining: float = PATIENCE,
    device_id: str = DEVICE.device_id,
    on_event: Callable[[JobEvent], None] = lambda _: None,
) -> Outcome:
    """Run to the end and keep what came."""
    result = Outcome()
    wanted = work(prompt) if isinstance(prompt, str) else prompt
    events = pool.run(device_id, session_id, wanted, remaining=remaining)
    try:
        async with asyncio.timeout(PATIENCE), aclosing(events):
            async for event in events:
                if isinstance(event, GenerationReport):
                    result.report = event
                elif isinstance(event, PausedGeneration):
                    result.paused = event
                else:
                    result.events.append(event)
                    on_event(event)
    except DomainError as error:
        result.error = error
    return result


async def until(
    pool: WorkerPool,
    condition: Callable[[WorkerStatus], bool],
    device_id: str = DEVICE.device_id,
) -> WorkerStatus:
    """Wait for a state of a device's worker."""
    met = asyncio.Event()
    seen: list[WorkerStatus] = []

    def look(changed: str, status: WorkerStatus) -> None:
        if changed == device_id and condition(status):
            seen.append(status)
            met.set()

    end = pool.subscribe(look)
    try:
        look(device_id, pool.status(device_id))
        async with asyncio.timeout(PATIENCE):
            await met.wait()
    finally:
        end()
    return seen[0]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def ready(pool: WorkerPool, device_id: str = DEVICE.device_id) -> WorkerStatus:
    """Wait until the worker is ready."""
    return await until(pool, lambda status: status.state is DeviceState.READY, device_id)


def lives(process_id: int) -> bool:
    """Whether that process runs; one that nobody has taken notice of yet does not."""
    try:
        status: str = psutil.Process(process_id).status()
    except psutil.NoSuchProcess:
        return False
    return status != psutil.STATUS_ZOMBIE


@asynccontextmanager
async def running(
    spool_dir: Path,
    command: Sequence[str] | None,
    *,
    timing: WorkerTiming = QUICK,
    rules: RestartRules = LENIENT,
    devices: Sequence[Device] = (DEVICE,),
) -> AsyncIterator[WorkerPool]:
    """A pool whose every process is gone afterwards, which is checked."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}

    def of_the_pool(child: psutil.Process) -> bool:
        try:  # a server that tests share has children that come and go
            above = {child.pid, *(parent.pid for parent in child.parents())}
        except psutil.NoSuchProcess:
            return False
        return not above & before

    pool = WorkerPool(
        WorkerOptions(spool_dir, timing=timing, restart=rules),
        command=None if command is None else lambda _: command,
    )
    await pool.start(devices)
    try:
        yield pool
    finally:
        async with asyncio.timeout(PATIENCE):
            await pool.stop(0.0)
    children = psutil.Process().children(recursive=True)
    assert not list(filter(of_the_pool, children)), "stop() left processes"


def accepted(spool_dir: Path) -> list[Path]:
    """Pictures that the front has taken over and nobody has taken from it."""
    return list((spool_dir / "accepted").iterdir())
