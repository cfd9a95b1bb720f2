"""The engine: one device, the models that fit on it, one picture after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from msgspec import structs

from domains.chain.backends.measuring import measure_step
from domains.chain.backends.work import process
from domains.chain.jobs import (
    ChainJob,
    ChainReport,
    PausedChain,
    StepBenchmarkJob,
    StepBenchmarkReport,
)
from domains.device.backends import faults
from domains.device.backends.work_stream import settle_stream
from domains.device.errors import DeviceLost
from domains.device.jobs import OptimizationJob, OptimizationReport, ReleaseJob, ReleaseReport
from domains.device.types import LoadedComponent
from domains.errors import DomainError, ResourceExhausted
from domains.inference.backends.benchmark import Benchmark
from domains.inference.backends.beside import lane_of
from domains.inference.backends.clock import Clock
from domains.inference.backends.comparison import Comparison
from domains.inference.backends.denoiser_use import SoleUse
from domains.inference.backends.device import release_memory
from domains.inference.backends.drawing import Drawing
from domains.inference.backends.loaded import Loaded
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loader import Held, Loader, Ready
from domains.inference.backends.optimization import Optimization
from domains.inference.backends.page_locks import lock_problem
from domains.inference.backends.parts import PartLoading
from domains.inference.backends.pass_size import PassSize
from domains.inference.backends.second_try import with_room
from domains.inference.backends.together import DrawingTogether, Outcome, Together, Use
from domains.inference.backends.wanted import WantedModel
from domains.inference.backends.warm_up import warm_up
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.inference.types import PrecisionMode
from domains.model.backends.libraries import settle_libraries
from domains.model.jobs import (
    BenchmarkJob,
    BenchmarkReport,
    ComparisonJob,
    ComparisonReport,
    LoadJob,
    LoadReport,
)
from domains.model.types import LONE_NETWORKS
from domains.session.jobs import JobContext, WorkPaused
from domains.session.types import Phase, PhaseStarted

# What to do when memory ran out.
_ADVICE = "draw a smaller picture, or unload other models"
Result = TypeVar("Result")


class Engine:
    """Draws pictures on one device; see the port of the same name.

    Models stay loaded while there is room. Only `held` is safe for use from another thread.

    Args:
        device: As torch names it: `cpu`, `cuda:0`, `mps`, `xpu:0`, `privateuseone:0`.
        code_dir: Where compiled code is kept; None: nothing is compiled.
    """

    def __init__(self, device: str, code_dir: Path | None = None) -> None:
        settle_libraries()
        self._device = torch.device(device)
        settle_stream(self._device)
        self._loader = Loader(self._device, self._count, code_dir)
        self.lane = lane_of(self._device)
        """Where pictures are decoded beside the steps of the next ones; None: nowhere."""
        self._components: tuple[LoadedComponent, ...] = ()
        self._pass_size = PassSize(self._device)
        self._used: frozenset[str] = frozenset()  # ids of the models that work uses

    @property
    def _model(self) -> LoadedModel | None:
        """The model used last of those that draw."""
        return self._loader.models.newest

    @property
    def loaded_path(self) -> Path | None:
        """Where that model lies."""
        return None if self._model is None else self._model.place.path

    def held(self) -> tuple[LoadedComponent, ...]:
        """The networks that are loaded, as of now; see the port."""
        # Each is read once: the main thread may replace them meanwhile.
        components, used = self._components, self._used
        if not used:
            return components
        now = datetime.now(UTC)
        return tuple(
            structs.replace(part, in_use=True, last_use_time=now)
            if part.model_id in used
            else part
            for part in components
        )

    def generate(
        self, job: GenerationJob, context: JobContext
    ) -> GenerationReport | PausedGeneration:
        """Draw every picture of `job`; see the port for errors.

        When memory runs out, what can be had again is dropped, other models too, and the one
        call that failed is made once more; a decoding that still fails is done in tiles,
        unless the request asks for EXACT.

        Raises:
            InvalidArgument: The scheduler's spacing, `steps` or `clip_skip` do not go with
                this model.
            FailedPrecondition: The model cannot be loaded, or NON_FINITE_OUTPUT.
            ResourceExhausted: HOST_OUT_OF_MEMORY or DEVICE_OUT_OF_MEMORY, with
                `needed_bytes` and `free_bytes` where they are known, `evictable_bytes`
                and `evictable_model_ids`.
            Unavailable: DEVICE_LOST; only a new process can use the device again.
        """
        clock = Clock()
        try:
            report = self._guarded(lambda: self._draw(job, context, clock))
        except WorkPaused:  # before anything was drawn
            report = PausedGeneration(clock.timings(), kept_steps=job.kept_steps)
        if isinstance(report, PausedGeneration):
            release_memory(self._device)
        return report

    def generate_together(self, jobs: Sequence[Together]) -> list[Outcome]:
        """Draw the pictures of several jobs; those that go together share passes.

        Jobs with the same model and parts are drawn side by side (`sharing_key`), one picture
        following the other, and all pictures' calls of the denoiser are made as one though they
        are at different steps. Their numbers differ from `generate`'s by rounding. What shares
        with nothing is drawn bit for bit as there. Pictures come out in any order.

        A pause ends what is under way: those pictures begin anew when the job is given again,
        with what is out as `finished`.

        Args:
            jobs: Each with pictures left to draw.

        Returns:
            What each came to, in their order: one that fails does so alone, and what came out
            of it before stays good.

        Raises:
            Unavailable: DEVICE_LOST; only a new process can use the device again.
        """
        if not jobs:
            return []

        def draw(
            job: GenerationJob, context: JobContext, clock: Clock, use: Use | None = None
        ) -> GenerationReport | PausedGeneration:
            return self._translated(lambda: self._draw(job, context, clock, use))

        together = DrawingTogether(self._device, draw, self._pass_size)
        outcomes = self._guarded(lambda: together.run(jobs))
        if any(isinstance(each, PausedGeneration) for each in outcomes):
            release_memory(self._device)
        return outcomes

    def _draw(
        self, job: GenerationJob, context: JobContext, clock: Clock, use: Use | None = None
    ) -> GenerationReport | PausedGeneration:
        """Have all that is needed ready, and draw."""
        wanted = WantedModel(
            job.settings.model_id, job.place, job.settings.precision, cached=job.cached
        )
        found = self._loader.ready(wanted, context, clock)
        model = self._using(found.model)
        may_tile = job.settings.precision is not PrecisionMode.EXACT
        settings = structs.replace(job.settings, precision=model.precision)
        loading = PartLoading(self._loader, context, clock, self._using)
        parts = loading.load(job, model)
        self._count()
        self._loader.make_room_for_picture(parts.vae, *settings.result_size)
        return Drawing(
            model,
            parts,
            settings,
            context,
            clock,
            found.origin,
            job,
            (use or SoleUse)(model, parts),
            may_tile,
            self.lane,
            self._loader.upscalers,
        ).run()

    def process(self, job: ChainJob, context: JobContext) -> ChainReport | PausedChain:
        """Do a chain of finishing steps on a picture; when memory runs out, what can be had
        again is dropped, models too, and it is done once more.

        Raises:
            DomainError: As the function of that name; DEVICE_OUT_OF_MEMORY and others as
                `generate`.
        """

        def once() -> ChainReport | PausedChain:
            return process(job, self._loader.upscalers, context)

        def work() -> ChainReport | PausedChain:
            try:
                return with_room(once, self._loader.let_go)
            except ResourceExhausted as error:  # even with the smallest tiles
                faults.drop_frames(error)
            self._loader.let_go()
            return once()

        report = self._guarded(work)
        if isinstance(report, PausedChain):
            release_memory(self._device)
        return report

    def measure_step(self, job: StepBenchmarkJob, context: JobContext) -> StepBenchmarkReport:
        """Measure a finishing step; raises as `process`, and makes no room."""
        return self._guarded(
            lambda: measure_step(job, self._loader.upscalers, self._device, context)
        )

    def load(self, job: LoadJob, context: JobContext) -> LoadReport:
        """Have a model ready; see the port."""
        wanted = WantedModel(
            job.model_id,
            job.place,
            data_types=job.data_types,
            cached=job.cached,
            type=job.model_type,
        )
        before = {model.model_id for model in self._loader.models}

        def load() -> Ready[Any]:
            found = self._load(wanted, context)
            self._using(found.model)
            if job.warm_up:
                warm_up(found.model, context)
            return found

        found = self._guarded(load)
        left = before - {model.model_id for model in self._loader.models}
        return LoadReport(
            found.model.components(), found.origin, tuple(sorted(left)), lock_problem()
        )

    def unload(self) -> None:
        """Let every model go and give its memory back."""
        self._loader.let_go()

    def release(self, job: ReleaseJob, context: JobContext) -> ReleaseReport:
        """Let loaded models go; see the port. A stop leaves nothing half loaded."""
        models = self._loader.models

        def leaves(model: Loaded) -> bool:
            return not job.model_ids or model.model_id in job.model_ids

        again = [one.wanted() for one in models if leaves(one)]
        small = (
            *self._loader.loras.let_go(job.model_ids),
            *self._loader.upscalers.let_go(job.model_ids),
        )
        self._count()
        if not again:
            return ReleaseReport(() if job.reload else small)
        context.emit(PhaseStarted(Phase.RELEASING))
        context.check_stop()
        released = tuple(part for one in models if leaves(one) for part in one.components())
        models.let_go(leaves)
        self._count()
        if not job.reload:
            return ReleaseReport((*small, *released))

        def reload() -> None:
            for wanted in again:
                self._load(wanted, context)
                self._loader.models.unclaim(wanted.place)

        self._guarded(reload)
        return ReleaseReport(released, self._components)

    def optimize(self, job: OptimizationJob, context: JobContext) -> OptimizationReport:
        """Run with a profile from here on and measure its effect; see the port."""

        def loaded(precision: PrecisionMode) -> LoadedModel:
            assert job.place is not None
            wanted = WantedModel(job.model_id, job.place, precision, cached=job.cached)
            return self._using(self._loader.ready(wanted, context, Clock()).model)

        optimization = Optimization(job, self._loader.settings, self._loader.apply, context)
        return self._guarded(lambda: optimization.run(lambda: self._model, loaded))

    def benchmark(self, job: BenchmarkJob, context: JobContext) -> BenchmarkReport:
        """Measure a model; see the port."""
        return self._guarded(Benchmark(self._loader, job, context).run)

    def compare(self, job: ComparisonJob, context: JobContext) -> ComparisonReport:
        """Draw with two models; see the port."""
        return self._guarded(Comparison(self._loader, job, context).run)

    def _load(self, wanted: WantedModel, context: JobContext) -> Ready[Any]:
        """Have a model ready, a whole one or one network."""
        if wanted.type in LONE_NETWORKS:
            return self._loader.ready_network(wanted, context, Clock())
        return self._loader.ready(wanted, context, Clock())

    def _using(self, model: Held) -> Held:
        """Tell that work uses this model too from here on."""
        self._used |= {model.model_id}
        self._count()
        return model

    def _count(self) -> None:
        """Note what is loaded."""
        self._components = (
            *self._loader.models.components(),
            *self._loader.loras.components(),
            *self._loader.upscalers.components(),
        )

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        try:
            # Not inference mode: tensors made in it cannot be used outside it.
            with torch.no_grad():
                yield
        finally:
            self._loader.models.end_work()
            self._loader.loras.end_work()
            self._count()
            self._used = frozenset()

    def _guarded(self, act: Callable[[], Result]) -> Result:
        """Run `act` without gradients, turning torch's errors into the domain's."""

        def work() -> Result:
            with self._at_work():
                return act()

        return self._translated(work)

    def _translated(self, act: Callable[[], Result]) -> Result:
        """Run `act`, turning torch's errors into the domain's."""
        fault: DomainError
        try:
            return act()
        except DomainError:
            raise
        except Exception as error:
            found = faults.domain_error(error, self._device, advice=_ADVICE)
            if found is None:
                raise
            faults.drop_frames(error)
            fault = found
        if isinstance(fault, DeviceLost):
            raise fault  # giving memory back would fail as well
        # Out here nothing refers to the failed call's tensors any more.
        release_memory(self._device)
        if isinstance(fault, ResourceExhausted):
            # Others made room before: the model it needs is all that is held.
            fault.metadata |= {"evictable_bytes": "0", "evictable_model_ids": ""}
        raise fault
