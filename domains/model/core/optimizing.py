"""Smaller copies of models: numbers of another type, without what only training needs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from domains.device.core.placement import check_placement
from domains.device.ports import Place
from domains.device.types import Placement
from domains.model.core.benchmarks import Benchmarks
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.copies import Copies, check_copy, check_data_type
from domains.model.errors import InvalidTask
from domains.model.jobs import ComparisonJob
from domains.model.views import ModelOptimization, OptimizationRequest
from domains.session.core.jobs import run_job
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.jobs import JobRunner
from domains.session.types import Outcome, Phase, SessionKind

_MEASURED = (Phase.LOADING_MODEL, Phase.MEASURING)
_COPIED = (Phase.READING, Phase.WRITING, Phase.VERIFYING)


class Optimizing:
    """Makes smaller copies, and measures them beside what they were made of.

    Args:
        copies: Makes the result.
        catalogue: Finds what is to be measured.
        place: Chooses the device where it is.
        benchmarks: Measures.
        pool: Draws with both on the device's worker.
    """

    def __init__(
        self,
        copies: Copies,
        catalogue: ModelCatalogue,
        place: Place,
        benchmarks: Benchmarks,
        pool: JobRunner,
    ) -> None:
        self._copies = copies
        self._catalogue = catalogue
        self._place = place
        self._benchmarks = benchmarks
        self._pool = pool

    def optimize(self, request: OptimizationRequest) -> SessionRequest:
        """The work as a session, which reports a `ModelOptimization`.

        Preparing it raises:
            InvalidTask: The request breaks rules.
            DomainError: What `Copies.source` raises; where it is to be measured also that the
                model cannot be drawn with, or the device not be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: OptimizationRequest) -> SessionPlan:
        check_copy(request.model_id, request.target_model_id, request.options)
        where = request.placement
        InvalidTask.check(
            check_data_type("data_type", request.data_type),
            check_data_type("vae_data_type", request.vae_data_type),
            *(() if where is None else check_placement(where, "placement.")),
        )
        model = await self._copies.source(request.model_id, request.target_model_id)
        if where is not None:
            return await self._on_device(request, where)
        return self._copies.plan(model, partial(self._optimize, request))

    async def _on_device(self, request: OptimizationRequest, where: Placement) -> SessionPlan:
        """What is measured waits for that device, and has it until all is done."""
        model = await self._catalogue.resolve(request.model_id)
        effort = Effort(model.model_id)
        placed = await self._place(where, effort, request.options.priority)
        return SessionPlan(
            kind=SessionKind.MODEL_TASK,
            device_id=placed.decision.device_id,
            placed=placed,
            model_id=model.model_id,
            expected_phases=(Phase.QUEUED, *_MEASURED, *_COPIED),
            work=partial(self._compare, request),
        )

    async def _compare(self, request: OptimizationRequest, session: Session) -> Outcome:
        """Measure, copy, measure: what cannot be drawn with is refused before it is copied."""
        model = await self._catalogue.resolve(request.model_id)
        before = await self._benchmarks.measure(session, model)
        made = await self._make(request, session)
        # From here on the copy is there, whatever becomes of the rest.
        after = await self._benchmarks.measure(session, made.model)
        job = ComparisonJob(model.model_id, model.place, made.model.model_id, made.model.place)
        compared = await run_job(self._pool, session, job)
        return Outcome(
            report=replace(
                made, before=before, after=after, similarity_db=compared.similarity_db
            )
        )

    async def _optimize(self, request: OptimizationRequest, session: Session) -> Outcome:
        return Outcome(report=await self._make(request, session))

    async def _make(self, request: OptimizationRequest, session: Session) -> ModelOptimization:
        model = await self._copies.source(request.model_id, request.target_model_id)
        copy, report = await self._copies.make(
            session,
            model,
            request.target_model_id,
            data_type=request.data_type,
            vae_data_type=request.vae_data_type,
            prune=request.prune,
            spare_vae=True,
        )
        return ModelOptimization(copy, model.size_bytes, copy.size_bytes, report.tensors_pruned)
