"""Giving a device a profile, with its effect measured."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from domains.device.core.figures import loaded_model
from domains.device.core.inventory import DeviceInventory
from domains.device.core.profiles import DeviceProfiles
from domains.device.errors import InvalidTask
from domains.device.jobs import OptimizationJob, OptimizationReport
from domains.device.ports import DeviceRuns, Models
from domains.device.types import OptimizationProfile
from domains.session.core.options import check_options
from domains.session.core.running import run_job
from domains.session.core.session import Session
from domains.session.core.sessions import SessionPlan
from domains.session.core.tasks import Tasks, with_report
from domains.session.types import (
    Phase,
    SessionEvent,
    SessionKind,
    SessionOptions,
)


@dataclass(frozen=True)
class OptimizationRequest:
    """Apply `profile` to a device and measure with a model; empty names mean defaults.

    `digest` stands for the whole request.
    """

    device_id: str
    profile: OptimizationProfile
    model_id: str
    options: SessionOptions
    digest: bytes


class Optimizations:
    """Applies profiles in the device's queue and remembers them.

    Args:
        inventory: Finds the device a request names.
        models: Finds the model a request names.
        tasks: Runs the work as a session.
        runs: Does it on the device's worker.
        profiles: Remembers what was applied.
    """

    def __init__(
        self,
        inventory: DeviceInventory,
        models: Models,
        tasks: Tasks,
        runs: DeviceRuns,
        profiles: DeviceProfiles,
    ) -> None:
        self._inventory = inventory
        self._models = models
        self._tasks = tasks
        self._runs = runs
        self._profiles = profiles

    async def optimize(
        self, request: OptimizationRequest
    ) -> AsyncGenerator[SessionEvent | OptimizationReport]:
        """Start the optimisation, or find the one its request_id started; follow it.

        Yields the session's events, and the report right before the last of them; then
        raises what a failed or cancelled session ended with.

        Raises:
            InvalidTask: The options break rules.
            DomainError: Device or model cannot be used, the queue is full, the session
                failed or was cancelled.
        """
        InvalidTask.check(*check_options(request.options, "options"))
        events = self._tasks.once(request.options, request.digest, lambda: self._begin(request))
        async with aclosing(with_report(events, OptimizationReport)) as items:
            async for item in items:
                yield item

    async def _begin(self, request: OptimizationRequest) -> AsyncGenerator[SessionEvent]:
        device = await self._inventory.resolve(request.device_id)
        named = request.model_id or loaded_model(self._runs.figures(device.device_id))
        model = await self._models.resolve(named)
        job = OptimizationJob(request.profile, model.model_id, model.path)
        plan = SessionPlan(
            kind=SessionKind.DEVICE_TASK,
            options=request.options,
            digest=request.digest,
            device_id=device.device_id,
            model_id=model.model_id,
            expected_phases=(Phase.QUEUED, Phase.LOADING_MODEL, Phase.MEASURING),
        )

        async def run(session: Session) -> OptimizationReport:
            report = await run_job(self._runs, device.device_id, session, job)
            self._profiles.remember(device.device_id, job.profile)
            return report

        return self._tasks.run(plan, run)
