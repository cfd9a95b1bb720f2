"""A stand-in for what workers do for the device domain besides drawing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any

from domains.device.jobs import (
    AttentionBackend,
    DataTypeFacts,
    OptimizationChange,
    OptimizationJob,
    OptimizationReport,
    OptimizationSetting,
    SelfTestFacts,
    SelfTestJob,
)
from domains.device.ports import StatusListener
from domains.device.types import DeviceFigures, DeviceState, Load, LoadedComponent
from domains.session.jobs import Job
from domains.session.types import Phase, PhaseStarted, StepFinished
from domains.values import ByteFigure, TensorDataType
from tests.fakes.device import FakeWorkers

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


def facts(problem: str = "") -> SelfTestFacts:
    """What a self-test found; `problem` tells one from another."""
    return SelfTestFacts(
        data_types=(
            DataTypeFacts(
                TensorDataType.FLOAT32, works=True, max_relative_error=1e-7, matmul_tflops=2.5
            ),
            DataTypeFacts(
                TensorDataType.BFLOAT16, works=False, max_relative_error=1.0, matmul_tflops=0
            ),
        ),
        largest_allocation=ByteFigure.measured(3 << 30, "a fake"),
        attention_backends=(AttentionBackend.MATH,),
        has_float64=True,
        host_to_device_gbps=12.0,
        device_to_host_gbps=6.0,
        has_pinned_memory=False,
        has_compilation=True,
        measure_time=MOMENT,
        software_versions={"torch": "9.9"},
        problems=(problem,) if problem else (),
    )


def report(work: OptimizationJob) -> OptimizationReport:
    """What applying a profile came to."""
    return OptimizationReport(
        profile=work.profile,
        changes=(OptimizationChange(OptimizationSetting.VAE_TILING, None, "off", "on"),),
        step_before=0.5,
        step_after=0.25,
        peak_memory_before=ByteFigure.measured(200, "a fake"),
        peak_memory_after=ByteFigure.measured(100, "a fake"),
    )


def component(model_id: str, *, hour: int = 0, in_use: bool = False) -> LoadedComponent:
    """A network that was last used at that hour."""
    return LoadedComponent(
        model_id,
        "unet",
        ByteFigure.measured(10, "a fake"),
        TensorDataType.FLOAT16,
        MOMENT.replace(hour=hour),
        in_use,
    )


def figures(*models: LoadedComponent, **changes: ByteFigure) -> DeviceFigures:
    """A device of 1,000 bytes with 600 free, 250 reserved and 200 allocated."""
    values = {
        name: ByteFigure.measured(value, f"fake.{name}")
        for name, value in {
            "total": 1000,
            "free": 600,
            "allocated": 200,
            "reserved": 250,
            "peak_allocated": 230,
            "largest_free": 500,
            "inactive_split": 5,
        }.items()
    }
    return DeviceFigures(**(values | changes), leased_bytes=0, models=models, read_time=MOMENT)


class FakeRuns:
    """Does at once what it is asked; waits for `released` when told to `hold`.

    Args:
        workers: Whose statuses a restart changes.
    """

    def __init__(self, workers: FakeWorkers) -> None:
        self.workers = workers
        self.tests = 0
        self.optimized: list[tuple[str, OptimizationJob]] = []
        self.restarted: list[tuple[str, bool]] = []
        self.told: dict[str, DeviceFigures] = {}
        self.error: Exception | None = None
        self.problem = ""
        self.began = asyncio.Event()
        self.restarting = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()
        self.listeners: list[StatusListener] = []
        self.stopped = 0

    def loading(self, device_id: str, *model_ids: str) -> tuple[Phase, ...]:
        return (Phase.LOADING_MODEL,)

    def hold(self) -> None:
        """Let work begin and not end until `released` is set."""
        self.released.clear()

    async def _work(self) -> None:
        self.began.set()
        try:
            await self.released.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped += 1
            raise
        if self.error is not None:
            raise self.error

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        assert remaining > 0
        match job:
            case SelfTestJob():
                self.tests += 1
                await self._work()
                yield StepFinished(0, 1, 1)
                yield facts(self.problem)
            case OptimizationJob():
                self.optimized.append((device_id, job))
                yield PhaseStarted(Phase.LOADING_MODEL)
                await self._work()
                yield PhaseStarted(Phase.MEASURING)
                yield report(job)
            case _:
                raise NotImplementedError

    async def restart(self, device_id: str, force: bool = False) -> None:
        self.restarted.append((device_id, force))
        self.restarting.set()
        await self._work()
        self.change(device_id, DeviceState.RECOVERING, "was replaced on request")
        await asyncio.sleep(0)
        self.change(device_id, DeviceState.READY)

    def change(self, device_id: str, state: DeviceState, explanation: str = "") -> None:
        """A worker's state changes, and everybody hears it."""
        self.workers.set(device_id, state, explanation)
        for listener in tuple(self.listeners):
            listener(device_id, self.workers.status(device_id))

    def cancel(self, device_id: str, session_id: str) -> None:
        raise NotImplementedError

    def pause(self, device_id: str, session_id: str) -> None:
        raise NotImplementedError

    def subscribe(self, listener: StatusListener) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def figures(self, device_id: str) -> DeviceFigures | None:
        return self.told.get(device_id)


class FakeTelemetry:
    """Tells `load`, and counts how often it was asked."""

    def __init__(self, load: Load = Load()) -> None:  # noqa: B008 - frozen
        self.load = load
        self.readings = 0

    def read(self, device: object) -> Load:
        self.readings += 1
        return self.load
