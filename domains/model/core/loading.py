"""Putting a model on a device before the first picture needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial

from domains.device.core.placement import check_placement
from domains.device.ports import Place
from domains.errors import FeatureNotBuilt
from domains.model.core.catalogue import ModelCatalogue
from domains.model.errors import InvalidLoad
from domains.model.jobs import LoadJob
from domains.model.types import LoadRequest, ModelOnDevice
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.jobs import JobRunner
from domains.session.types import Outcome, Phase, SessionKind
from domains.values import ModelOrigin


class Loads:
    """Loads models in the device's queue.

    Args:
        place: Chooses the device.
        catalogue: Finds the model a request names.
        pool: Does it on the device's worker.
        now: The wall clock, timezone-aware.
    """

    def __init__(
        self,
        place: Place,
        catalogue: ModelCatalogue,
        pool: JobRunner,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._place = place
        self._catalogue = catalogue
        self._pool = pool
        self._now = now

    def load(self, request: LoadRequest) -> SessionRequest:
        """The load as a session, which reports a `ModelOnDevice`.

        Preparing it raises:
            InvalidLoad: The options break rules.
            FeatureNotBuilt: The request uses what this version does not do.
            DomainError: Device or model cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: LoadRequest) -> SessionPlan:
        InvalidLoad.check(
            *check_placement(request.placement, "placement."),
            *check_options(request.options, "options"),
        )
        if request.unbuilt:
            raise FeatureNotBuilt(request.unbuilt)
        model = await self._catalogue.resolve(request.model_id)
        effort = Effort(model.model_id)
        placed = await self._place(request.placement, effort, request.options.priority)
        return SessionPlan(
            kind=SessionKind.MODEL_LOAD,
            device_id=placed.decision.device_id,
            placed=placed,
            model_id=model.model_id,
            expected_phases=(Phase.QUEUED, Phase.LOADING_MODEL),
            work=partial(self._run, LoadJob(model.model_id, model.place)),
        )

    async def _run(self, job: LoadJob, session: Session) -> Outcome:
        self._catalogue.record_use(job.model_id)
        clock = asyncio.get_running_loop()
        began = clock.time()
        report = await run_job(self._pool, session, job)
        loaded = ModelOnDevice(
            job.model_id,
            session.device_id,
            report.loaded,
            report.origin,
            None if report.origin is ModelOrigin.LOADED else self._now(),
        )
        took = 0.0 if report.origin is ModelOrigin.LOADED else clock.time() - began
        return Outcome(timings={Phase.LOADING_MODEL: took}, report=loaded)
