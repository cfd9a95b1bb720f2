"""Giving a device a profile, with its effect measured."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from domains.device.core.figures import loaded_models
from domains.device.core.inventory import DeviceInventory
from domains.device.core.profiles import DeviceProfiles
from domains.device.errors import InvalidTask
from domains.device.jobs import OptimizationJob
from domains.device.ports import DeviceRuns, MeasuredModel, Models
from domains.device.types import OptimizationProfile
from domains.errors import NotFound
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.jobs import ModelRunner
from domains.session.types import Outcome, Phase, SessionKind, WorkOptions


@dataclass(frozen=True)
class OptimizationRequest:
    """Apply `profile` to a device and measure with a model; empty names mean defaults.

    `digest` stands for the whole request.
    """

    device_id: str
    profile: OptimizationProfile
    model_id: str
    options: WorkOptions
    digest: bytes


class Optimizations:
    """Applies profiles in the device's queue and remembers them.

    Args:
        inventory: Finds the device a request names.
        models: Finds the model a request names.
        runs: Know what the devices' workers hold.
        jobs: Does it on the device's worker.
        profiles: Remembers what was applied.
    """

    def __init__(
        self,
        inventory: DeviceInventory,
        models: Models,
        runs: DeviceRuns,
        jobs: ModelRunner,
        profiles: DeviceProfiles,
    ) -> None:
        self._inventory = inventory
        self._models = models
        self._runs = runs
        self._jobs = jobs
        self._profiles = profiles

    def optimize(self, request: OptimizationRequest) -> SessionRequest:
        """The optimisation as a session, which reports an `OptimizationReport`.

        Preparing it raises:
            InvalidTask: The options break rules.
            DomainError: Device or model cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: OptimizationRequest) -> SessionPlan:
        InvalidTask.check(*check_options(request.options, "options"))
        device = await self._inventory.resolve(request.device_id)
        model = await self._measured(request.model_id, device.device_id)
        job = OptimizationJob(request.profile, model.model_id, model.place)
        return SessionPlan(
            kind=SessionKind.DEVICE_TASK,
            device_id=device.device_id,
            model_id=model.model_id,
            expected_phases=(
                Phase.QUEUED,
                *self._jobs.loading(device.device_id, model.model_id),
                Phase.MEASURING,
            ),
            work=partial(self._run, job),
        )

    async def _measured(self, named: str, device_id: str) -> MeasuredModel:
        """The model of that name; without one that which is loaded and draws, else the default
        one. An upscaler may have been used since."""
        if not named:
            for model_id in loaded_models(self._runs.figures(device_id)):
                with suppress(NotFound):
                    return await self._models.resolve(model_id)
        return await self._models.resolve(named)

    async def _run(self, job: OptimizationJob, session: Session) -> Outcome:
        report = await run_job(self._jobs, session, job)
        self._profiles.remember(session.device_id, job.profile)
        return Outcome(report=report)
