"""Measuring postprocessors on devices; the newest figures outlive the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from msgspec import Meta

from domains import checks
from domains.chain.core.preparing import ChainPreparer
from domains.chain.core.sizes import sizes_of
from domains.chain.errors import InvalidChain, PostprocessorMissing
from domains.chain.jobs import StepBenchmarkJob
from domains.chain.types import AskedChain, CubeFile, LutStep, Size, Step
from domains.device.core import facts as kept
from domains.device.core.placement import check_placement
from domains.device.ports import FactsStore, Place
from domains.device.types import Placement
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS, default_of
from domains.picture.core import KeptPicture, Pictures, check_image
from domains.picture.types import OWN_SIZE, InputImage, PreparedPicture, ResizeFit
from domains.postprocessing.core.inventory import PostprocessorInventory
from domains.postprocessing.core.measured_steps import INVERTING, step_of
from domains.postprocessing.types import Postprocessor, PostprocessorBenchmark
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.jobs import JobRunner
from domains.session.types import Outcome, Phase, SessionKind, WorkOptions

_MESSAGE = "BenchmarkPostprocessorRequest"
_KEY = "postprocessing.benchmarks"
_EDGE = LIMITS[f"{_MESSAGE}.input_pixels"]
_DEFAULT_EDGE = int(default_of(f"{_MESSAGE}.input_pixels"))
_MOST_KEPT = 512
_MOST_SHOWN = 8


@dataclass(frozen=True)
class StepBenchmarkRequest:
    """Measure a postprocessor; `digest` stands for the whole request.

    It works on `image`, or on a synthetic square with edges of `input_pixels`; None is what
    the client leaves out. The `reference` is what should come of it.
    """

    postprocessor_id: str
    placement: Placement
    input_pixels: int | None
    image: InputImage | None
    reference: InputImage | None
    runs: int
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class _Compared:
    """The pictures of a request; None where it has none."""

    image: KeptPicture | None = None
    reference: KeptPicture | None = None


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
        pictures: Prepares what is worked on and compared with.
        preparer: Finds the network of a step.
        place: Chooses the device.
        jobs: Does it on the device's worker.
        results: Keeps what comes of it.
    """

    def __init__(
        self,
        inventory: PostprocessorInventory,
        pictures: Pictures,
        preparer: ChainPreparer,
        place: Place,
        jobs: JobRunner,
        results: KeptBenchmarks,
    ) -> None:
        self._inventory = inventory
        self._pictures = pictures
        self._preparer = preparer
        self._place = place
        self._jobs = jobs
        self._results = results

    def benchmark(self, request: StepBenchmarkRequest) -> SessionRequest:
        """The measurement as a session, which reports a `PostprocessorBenchmark`.

        Preparing it raises:
            InvalidChain: The content breaks rules.
            InvalidPicture: A picture cannot be used.
            PostprocessorMissing: There is none of that id that could be measured.
            DomainError: Device, model or picture cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: StepBenchmarkRequest) -> SessionPlan:
        InvalidChain.check(*_check(request))
        postprocessor = await self._found(request.postprocessor_id)
        compared = await self._compared(request)
        size = _size_of(request, compared)
        asked = step_of(postprocessor, size)
        cubes = {0: CubeFile(INVERTING)} if isinstance(asked, LutStep) else {}
        whole = AskedChain((asked,), cubes=cubes)
        chain = await self._preparer.prepare(whole, "postprocessor_id")
        if compared.image is not None:
            InvalidChain.check(*_check_sizes(asked, size, compared.reference))
        model_id = chain.model_id
        effort = Effort(model_id, f"measuring {asked.field}")
        placed = await self._place(request.placement, effort, request.options.priority)

        async def work(session: Session) -> Outcome:
            # Made here, so that the files of the chain's steps and the pictures stay.
            job = StepBenchmarkJob(
                chain.steps[0],
                size[0],
                request.runs,
                _prepared(compared.image),
                _prepared(compared.reference),
            )
            report = await run_job(self._jobs, session, job)
            measured = PostprocessorBenchmark(
                request.postprocessor_id,
                session.device_id,
                *size,
                report.run,
                report.peak_memory,
                report.quality,
                report.baseline,
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

    async def _compared(self, request: StepBenchmarkRequest) -> _Compared:
        image = reference = None
        if request.image is not None:
            prepare = partial(self._pictures.prepare, canvas=OWN_SIZE, fit=ResizeFit.STRETCH)
            image = await prepare(request.image, "image", keep_alpha=True)
            if request.reference is not None:
                reference = await prepare(request.reference, "reference")
        return _Compared(image, reference)


def _prepared(kept: KeptPicture | None) -> PreparedPicture | None:
    return None if kept is None else kept.prepared


def _size_of(request: StepBenchmarkRequest, compared: _Compared) -> Size:
    """Of what is worked on."""
    if compared.image is not None:
        return compared.image.prepared.width, compared.image.prepared.height
    edge = _DEFAULT_EDGE if request.input_pixels is None else request.input_pixels
    return edge, edge


def _check(request: StepBenchmarkRequest) -> Iterator[FieldViolation | None]:
    yield checks.required("postprocessor_id", request.postprocessor_id)
    yield from check_placement(request.placement, "placement.")
    if request.input_pixels is not None:
        yield checks.number("input_pixels", request.input_pixels, _EDGE)
        if request.image is not None:
            rule = "There is an image to work on; leave one of the two out."
            yield FieldViolation("input_pixels", Reason.FIELDS_CONFLICT, rule)
    yield checks.number("runs", request.runs, LIMITS[f"{_MESSAGE}.runs"])
    yield from check_options(request.options, "options")
    if request.image is not None:
        yield from check_image(request.image, "image")
    if request.reference is not None:
        yield from check_image(request.reference, "reference")
        if request.image is None:
            rule = "Must hold the picture to work on, as there is a reference for it."
            yield FieldViolation("image", Reason.REQUIRED_FIELD_MISSING, rule)


def _check_sizes(
    step: Step, size: Size, reference: KeptPicture | None
) -> Iterator[FieldViolation]:
    """Whether a picture of that size can be worked on, and what comes of it compared."""
    found = sizes_of((step,), size, "image")
    if found.violation is not None:
        yield FieldViolation("image", found.violation.reason, found.violation.description)
    elif reference is not None:
        width, height = found.sizes[-1]
        prepared = reference.prepared
        if (prepared.width, prepared.height) != (width, height):
            rule = (
                f"Must have the result's {width}x{height} pixels; it has "
                f"{prepared.width}x{prepared.height}."
            )
            yield FieldViolation("reference", Reason.DIMENSIONS_INVALID, rule)
