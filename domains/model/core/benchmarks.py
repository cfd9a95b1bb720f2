"""Measuring models on devices: loading, switching, and each part of a picture."""

from __future__ import annotations

from functools import partial

from domains import checks
from domains.device.core.placement import check_placement
from domains.device.ports import Place
from domains.limits import LIMITS
from domains.model.core.catalogue import ModelCatalogue
from domains.model.errors import InvalidLoad
from domains.model.jobs import BenchmarkJob
from domains.model.types import Model
from domains.model.views import BenchmarkRequest, ModelBenchmark
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.jobs import ModelRunner
from domains.session.types import Outcome, Phase, SessionKind

_MESSAGE = "BenchmarkModelRequest"
DEFAULT_STEPS = int(LIMITS[f"{_MESSAGE}.steps"].default or 0)


class Benchmarks:
    """Measures models in the device's queue.

    Args:
        place: Chooses the device.
        catalogue: Finds the model a request names.
        pool: Does it on the device's worker.
    """

    def __init__(self, place: Place, catalogue: ModelCatalogue, pool: ModelRunner) -> None:
        self._place = place
        self._catalogue = catalogue
        self._pool = pool

    def benchmark(self, request: BenchmarkRequest) -> SessionRequest:
        """The measurement as a session, which reports a `ModelBenchmark`.

        Preparing it raises:
            InvalidLoad: The content breaks rules.
            DomainError: Device or model cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def measure(
        self,
        session: Session,
        model: Model,
        *,
        width: int | None = None,
        height: int | None = None,
        steps: int = DEFAULT_STEPS,
    ) -> ModelBenchmark:
        """Measure a model as part of a session, on its device.

        Args:
            session: Whose turn it is there.
            model: A usable checkpoint.
            width: Of the picture, in pixels; None means native.
            height: Likewise.
            steps: Measured steps, after one that is not.

        Raises:
            DomainError: What `run_job` raises.
        """
        job = BenchmarkJob(
            model.model_id,
            model.place,
            width or model.native_width,
            height or model.native_height,
            steps,
        )
        report = await run_job(self._pool, session, job)
        return ModelBenchmark(
            model.model_id,
            session.device_id,
            report.load,
            report.switch,
            report.encode,
            report.step,
            report.decode,
            report.peak_memory,
            report.data_types,
            report.channels_last,
        )

    async def _prepare(self, request: BenchmarkRequest) -> SessionPlan:
        sizes = {"width": request.width, "height": request.height}
        InvalidLoad.check(
            checks.required("model_id", request.model_id),
            *check_placement(request.placement, "placement."),
            *(
                checks.number(field, value, LIMITS[f"{_MESSAGE}.{field}"])
                for field, value in sizes.items()
                if value is not None
            ),
            checks.number("steps", request.steps, LIMITS[f"{_MESSAGE}.steps"]),
            *check_options(request.options, "options"),
        )
        model = await self._catalogue.resolve(request.model_id)
        effort = Effort(model.model_id)
        placed = await self._place(request.placement, effort, request.options.priority)

        async def work(session: Session) -> Outcome:
            measured = await self.measure(
                session, model, width=request.width, height=request.height, steps=request.steps
            )
            return Outcome(report=measured)

        return SessionPlan(
            kind=SessionKind.BENCHMARK,
            device_id=placed.decision.device_id,
            placed=placed,
            model_id=model.model_id,
            expected_phases=(
                Phase.QUEUED,
                *self._pool.loading(placed.decision.device_id, model.model_id),
                Phase.MEASURING,
            ),
            work=work,
        )
