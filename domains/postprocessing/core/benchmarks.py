"""Measuring postprocessors on devices; the newest figures outlive the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from msgspec import Meta

from domains import checks
from domains.chain.core.preparing import NON_LOCAL_MEANS, ChainPreparer
from domains.chain.errors import InvalidChain, PostprocessorMissing
from domains.chain.jobs import StepBenchmarkJob
from domains.chain.types import (
    AskedChain,
    ColorStep,
    CropStep,
    CubeFile,
    DeblurStep,
    DenoiseMethod,
    DenoiseStep,
    FaceRestoreStep,
    LutStep,
    PadMode,
    PadStep,
    RemoveBackgroundStep,
    ResizeStep,
    RotateStep,
    SharpenStep,
    Step,
    UpscaleStep,
    WatermarkStep,
)
from domains.device.core import facts as kept
from domains.device.core.placement import check_placement
from domains.device.ports import FactsStore, Place
from domains.device.types import Placement
from domains.limits import LIMITS
from domains.postprocessing.core.inventory import PostprocessorInventory
from domains.postprocessing.types import (
    Postprocessor,
    PostprocessorBenchmark,
    PostprocessorKind,
)
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.jobs import JobRunner
from domains.session.types import Outcome, Phase, SessionKind, WorkOptions

_MESSAGE = "BenchmarkPostprocessorRequest"
_KEY = "postprocessing.benchmarks"
_MOST_KEPT = 512
_MOST_SHOWN = 8

_MEASURED: Mapping[PostprocessorKind, Callable[[int], Step]] = {
    PostprocessorKind.SHARPEN: lambda _edge: SharpenStep(),
    PostprocessorKind.DENOISE: lambda _edge: DenoiseStep(),
    PostprocessorKind.COLOR: lambda _edge: ColorStep(
        brightness=1.1, contrast=1.1, saturation=1.1, gamma=1.1, auto_white_balance=True
    ),
    PostprocessorKind.RESIZE: lambda edge: ResizeStep(width=edge // 2, height=edge // 2),
    PostprocessorKind.CROP: lambda edge: CropStep(0, 0, edge // 2, edge // 2),
    PostprocessorKind.WATERMARK: lambda _edge: WatermarkStep(text="deviceops"),
    PostprocessorKind.ROTATE: lambda _edge: RotateStep(degrees=10.0),
    PostprocessorKind.PAD: lambda edge: PadStep(*4 * (edge // 4,), PadMode.REFLECT),
    PostprocessorKind.LUT: lambda _edge: LutStep(),
    PostprocessorKind.DEBLUR: lambda _edge: DeblurStep(),
    PostprocessorKind.REMOVE_BACKGROUND: lambda _edge: RemoveBackgroundStep(),
}
"""What is measured of each built-in postprocessor, with edges of so many pixels: something that
changes every pixel that it could."""

# The eight corners of a cube of colours, each turned to its opposite.
_INVERTING = b"LUT_3D_SIZE 2\n" + b"".join(
    b"%d %d %d\n" % (1 - red, 1 - green, 1 - blue)
    for blue in range(2)
    for green in range(2)
    for red in range(2)
)


@dataclass(frozen=True)
class StepBenchmarkRequest:
    """Measure a postprocessor; `digest` stands for the whole request."""

    postprocessor_id: str
    placement: Placement
    input_pixels: int
    runs: int
    options: WorkOptions
    digest: bytes


class KeptBenchmarks:
    """The newest figures of each postprocessor on each device.

    Args:
        facts: Keeps them.
    """

    def __init__(self, facts: FactsStore) -> None:
        self._facts = facts

    def of(self, postprocessor_id: str) -> tuple[PostprocessorBenchmark, ...]:
        """Those of one, the newest first."""
        found = [one for one in self._all() if one.postprocessor_id == postprocessor_id]
        return tuple(found[:_MOST_SHOWN])

    async def keep(self, newest: PostprocessorBenchmark) -> None:
        """In the place of what was measured before of the same on the same device."""
        same = (newest.postprocessor_id, newest.device_id)
        others = (one for one in self._all() if (one.postprocessor_id, one.device_id) != same)
        found = (newest, *others)[:_MOST_KEPT]
        await asyncio.to_thread(kept.note, self._facts, _KEY, found)

    def _all(self) -> tuple[PostprocessorBenchmark, ...]:
        kind = Annotated[tuple[PostprocessorBenchmark, ...], Meta(max_length=_MOST_KEPT)]
        return kept.recall(self._facts, _KEY, kind) or ()


class StepBenchmarks:
    """Measures postprocessors in the device's queue.

    Args:
        inventory: Knows what there is.
        preparer: Finds the network of a step.
        place: Chooses the device.
        jobs: Does it on the device's worker.
        results: Keeps what comes of it.
    """

    def __init__(
        self,
        inventory: PostprocessorInventory,
        preparer: ChainPreparer,
        place: Place,
        jobs: JobRunner,
        results: KeptBenchmarks,
    ) -> None:
        self._inventory = inventory
        self._preparer = preparer
        self._place = place
        self._jobs = jobs
        self._results = results

    def benchmark(self, request: StepBenchmarkRequest) -> SessionRequest:
        """The measurement as a session, which reports a `PostprocessorBenchmark`.

        Preparing it raises:
            InvalidChain: The content breaks rules.
            PostprocessorMissing: There is none of that id that could be measured.
            DomainError: Device or model cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: StepBenchmarkRequest) -> SessionPlan:
        InvalidChain.check(
            checks.required("postprocessor_id", request.postprocessor_id),
            *check_placement(request.placement, "placement."),
            *(
                checks.number(field, getattr(request, field), LIMITS[f"{_MESSAGE}.{field}"])
                for field in ("input_pixels", "runs")
            ),
            *check_options(request.options, "options"),
        )
        asked = _step_of(await self._found(request.postprocessor_id), request.input_pixels)
        cubes = {0: CubeFile(_INVERTING)} if isinstance(asked, LutStep) else {}
        whole = AskedChain((asked,), cubes=cubes)
        chain = await self._preparer.prepare(whole, "postprocessor_id")
        model_id = chain.model_id
        effort = Effort(model_id, f"measuring {asked.field}")
        placed = await self._place(request.placement, effort, request.options.priority)

        async def work(session: Session) -> Outcome:
            # Made here, so that the chain, and with it the files of its steps, stays.
            job = StepBenchmarkJob(chain.steps[0], request.input_pixels, request.runs)
            report = await run_job(self._jobs, session, job)
            measured = PostprocessorBenchmark(
                request.postprocessor_id,
                session.device_id,
                request.input_pixels,
                report.run,
                report.peak_memory,
            )
            await self._results.keep(measured)
            return Outcome(report=measured)

        return SessionPlan(
            kind=SessionKind.BENCHMARK,
            device_id=placed.decision.device_id,
            placed=placed,
            model_id=model_id,
            expected_phases=(
                Phase.QUEUED,
                *((Phase.LOADING_MODEL,) if model_id else ()),
                Phase.MEASURING,
            ),
            work=work,
        )

    async def _found(self, postprocessor_id: str) -> Postprocessor:
        for one in await self._inventory.list():
            if one.postprocessor_id == postprocessor_id:
                return one
        why = "there is none of that id; ListPostprocessors lists them."
        raise PostprocessorMissing("postprocessor_id", why, postprocessor_id)


def _step_of(found: Postprocessor, input_pixels: int) -> Step:
    if found.ready and found.postprocessor_id == NON_LOCAL_MEANS:
        return DenoiseStep(method=DenoiseMethod.NON_LOCAL_MEANS)
    if found.ready and found.kind in _MEASURED:
        return _MEASURED[found.kind](input_pixels)
    if found.ready and found.kind is PostprocessorKind.UPSCALE:
        # Its own factor, so that nothing but the network is measured.
        factor = float(found.factors[0]) if found.factors else UpscaleStep().factor
        return UpscaleStep(postprocessor_id=found.postprocessor_id, factor=factor)
    if found.ready and found.kind is PostprocessorKind.FACE_RESTORE:
        return FaceRestoreStep(postprocessor_id=found.postprocessor_id)
    why = found.explanation or "it cannot be measured by itself."
    raise PostprocessorMissing("postprocessor_id", why, found.postprocessor_id)
