"""Generations over fakes of the worker, the devices, the models and the artifacts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from domains.chain.core.preparing import ChainPreparer
from domains.chain.core.statistics import StepStatistics
from domains.chain.jobs import SafetyCheckJob, SafetyFindings
from domains.chain.types import AskedChain, SafetyStep
from domains.clock import Clock
from domains.device.core.facts import TransientFacts
from domains.device.types import ANY_DEVICE, Device, DeviceKind, NamedDevice, Placement
from domains.errors import Cancelled, DomainError, NotFound, Reason
from domains.inference.core.batches import GenerationBatches
from domains.inference.core.drawing import Drawing
from domains.inference.core.forecast import Forecasts
from domains.inference.core.generations import Generations
from domains.inference.core.preparing import GenerationPreparer
from domains.inference.core.safeguards import Safeguards
from domains.inference.core.statistics import StatisticsKeeper
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration, Timings
from domains.inference.types import (
    Computation,
    ControlInput,
    GenerationRequest,
    GenerationSettings,
    ImagePromptInput,
    PrecisionMode,
)
from domains.memory.types import Extent, HeldComponent, Place
from domains.model.types import Architecture, Component, Model, ModelFormat, ModelType
from domains.picture.core import KeptPicture
from domains.picture.jobs import PictureReport
from domains.picture.types import (
    Canvas,
    ControlPreprocessor,
    InputImage,
    PictureFile,
    PreparedPicture,
    ResizeFit,
)
from domains.provenance.backends.secrets import SecretsFolder
from domains.provenance.backends.signing import Signer
from domains.provenance.core import Keeping, Provenance
from domains.safety import (
    CategoryScore,
    Findings,
    SafetyAction,
    SafetyPolicy,
    SafetySubject,
    SafetyVerdict,
)
from domains.safety.verdict import harshest, verdict
from domains.session.core.placed import Placed
from domains.session.core.sessions import Sessions
from domains.session.core.speeds import Effort
from domains.session.errors import WorkerLost
from domains.session.jobs import Job, PeakMemory, SpooledImage
from domains.session.types import (
    ImageResult,
    Phase,
    PhaseStarted,
    Piece,
    PieceFinished,
    Preview,
    Priority,
    SessionEvent,
    StepFinished,
    WorkOptions,
)
from domains.values import (
    ByteFigure,
    Degradation,
    DegradationKind,
    ImageFileFormat,
    ModelOrigin,
    ModelPart,
    ModelPlace,
    PartDataType,
    PictureMarks,
    PlacementDecision,
    TensorDataType,
)
from server.errors import describe_failure
from tests.domains.sessions import changes_of, runner_of
from tests.fakes.image_prompts import FakeImagePromptFits

MODEL = Model(
    model_id="emoji",
    name="emoji",
    type=ModelType.CHECKPOINT,
    architecture=Architecture.SDXL,
    format=ModelFormat.DIFFUSERS_FOLDER,
    place=ModelPlace.of(Path("emoji")),
    size_bytes=1,
    modified_at=datetime(2030, 1, 1, tzinfo=UTC),
    native_width=256,
    native_height=320,
    default_scheduler="EulerDiscreteScheduler",
    components=(
        Component("text_encoder", "CLIPTextModel"),
        Component("text_encoder_2", "CLIPTextModelWithProjection"),
    ),
)


@dataclass
class FakePool:
    """A worker that draws pictures of nothing, holds when told, and fails when told."""

    works: list[GenerationJob] = field(default_factory=list)
    failure: Exception | None = None
    peak: int | None = None
    hold: asyncio.Event | None = None
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    pausing: bool = False
    checks: list[SafetyCheckJob] = field(default_factory=list)
    score: float = 0.0
    breaking: Exception | None = None
    """What the last step of a chain ends with."""
    lost_before: int | None = None
    """The picture that its worker is lost before, once."""

    def pause(self, device_id: str, session_id: str) -> None:
        self.pausing = True
        if self.hold is not None:
            self.hold.set()

    def loading(self, device_id: str, *model_ids: str) -> tuple[Phase, ...]:
        assert (device_id, model_ids[0]) == ("cpu:0", "emoji")
        return (Phase.READING, Phase.LOADING_MODEL)

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        if isinstance(job, SafetyCheckJob):
            self.checks.append(job)
            found = [Findings((CategoryScore("nsfw", self.score, "opennsfw"),))]
            yield SafetyFindings(tuple(found * len(job.pictures)), 0.5)
            return
        assert isinstance(job, GenerationJob)
        self.works.append(job)
        settings = job.settings
        yield PhaseStarted(Phase.DENOISING, 0)
        if self.hold is not None:
            self.holding.set()
            waits = [
                asyncio.ensure_future(event.wait()) for event in (self.hold, self.cancelled)
            ]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if self.cancelled.is_set():
                raise Cancelled("stopped")
        for step in range(1, settings.steps_taken + 1):
            yield StepFinished(0, step, settings.steps_taken, 0.25)
            yield Preview(0, step, 8, 8, b"jpeg")
        if self.peak is not None:
            yield PeakMemory(ByteFigure.measured(self.peak, "test"))
        if self.failure is not None:
            raise self.failure
        for index, seed in list(enumerate(settings.seeds))[job.first_image :]:
            if self.pausing and index > job.first_image:  # after one picture of each turn
                self.pausing = False
                yield PausedGeneration(
                    Timings(load=1.0, denoise=2.0),
                    (Degradation(DegradationKind.VAE_TILED, "Tiled."),),
                    kept_steps=2,
                )
                return
            if index == self.lost_before:
                self.lost_before = None
                raise WorkerLost(device_id, {}, 0.0, repeats=True)
            for event in _steps_of(job, index):
                last = getattr(event, "done", 0) == len(job.steps)
                if self.breaking is not None and last:
                    raise self.breaking
                yield event
            width, height = settings.size
            image = ImageResult(index, seed, "a" * 64, ImageFileFormat.PNG, width, height, 10)
            yield self._judged(structs.replace(image, **_size(job)), job)
        yield GenerationReport(
            Timings(denoise=1.0),
            PrecisionMode.EXACT,
            ModelOrigin.LOADED,
            (PartDataType(ModelPart.DENOISER, TensorDataType.FLOAT32),),
            computed=Computation(),
        )

    def _judged(self, image: ImageResult, job: GenerationJob) -> SpooledImage:
        scores = [CategoryScore("nsfw", self.score, "opennsfw")]
        named = [step.policy for step in job.steps if isinstance(step, SafetyStep)]
        found = harshest(
            verdict(scores, policy, SafetySubject.RESULT)
            for policy in (*named, job.policy)
            if policy is not None
        )
        if found is None:
            return SpooledImage(image, Path("x"))
        if found.action is SafetyAction.BLOCK:
            withheld = structs.replace(image, artifact_id="", size_bytes=0, safety=found)
            return SpooledImage(withheld, None)
        return SpooledImage(structs.replace(image, safety=found), Path("x"))

    def cancel(self, device_id: str, session_id: str) -> None:
        self.cancelled.set()


def _steps_of(job: GenerationJob, index: int) -> Iterator[Any]:
    if job.steps:
        yield PhaseStarted(Phase.POSTPROCESSING, index)
    for done in range(1, len(job.steps) + 1):
        yield PieceFinished(index, Piece.STEP, done, len(job.steps))


def _size(job: GenerationJob) -> dict[str, int]:
    return dict(zip(("width", "height"), job.finished_size, strict=True))


@dataclass
class FakeDevices:
    """One processor."""

    async def resolve(self, name: str) -> Device:
        return Device(
            device_id="cpu:0",
            kind=DeviceKind.CPU,
            name="processor",
            vendor="",
            torch_device="cpu",
            total_memory=ByteFigure.measured(2**30, "test"),
        )


async def place(placement: Placement, effort: Effort, priority: Priority) -> Placed:
    """There is one processor."""
    if placement not in (ANY_DEVICE, NamedDevice("cpu"), NamedDevice("cpu:0")):
        raise NotFound("no such device", reason=Reason.DEVICE_NOT_FOUND)
    return Placed(PlacementDecision.named("cpu:0"), effort)


@dataclass
class FakeModels:
    """One checkpoint, and what else a test puts there."""

    model: Model = MODEL
    others: dict[str, Model] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)

    async def resolve(
        self,
        model_id: str,
        *,
        type: ModelType = ModelType.CHECKPOINT,
        or_type: ModelType | None = None,
        masks: bool = False,
        vae: bool = False,
        field: str = "model_id",
    ) -> Model:
        await asyncio.sleep(0)
        other = self.others.get(model_id)
        if other is not None and other.type in (type, or_type):
            return other
        if model_id not in ("", self.model.model_id):
            raise NotFound("no such model", reason=Reason.MODEL_NOT_FOUND)
        return self.model if type is ModelType.CHECKPOINT else replace(self.model, type=type)

    async def of_type(self, type: ModelType) -> tuple[Model, ...]:
        return tuple(other for other in self.others.values() if other.type is type)

    async def companions_of(self, model: Model, type: ModelType) -> tuple[Model, ...]:
        return tuple(other for other in self.others.values() if other.type is type)

    def sha256_of(self, model: Model) -> str:
        return "5" * 64

    def record_use(self, model_id: str) -> None:
        self.used.append(model_id)


@dataclass
class FakeMachine:
    """How much memory there is and what lies there."""

    total: int | None = 8 << 30
    free: int | None = 4 << 30
    parts: tuple[HeldComponent, ...] = ()

    @property
    def models(self) -> FakeMachine:
        return self

    @property
    def memory(self) -> FakeMachine:
        return self

    def held(self) -> tuple[HeldComponent, ...]:
        return self.parts

    def idle(self, device_id: str) -> list[Any]:
        return []

    async def extent(self, place: Place) -> Extent:
        return Extent(self.total, self.free)


@dataclass
class FakeArtifacts:
    """Keeps nothing but what it was given."""

    adopted: list[str] = field(default_factory=list)
    failure: DomainError | None = None

    async def adopt(
        self,
        path: Path,
        sha256: str,
        owner: str,
        *,
        session_id: str = "",
        retention_seconds: float | None = None,
    ) -> object:
        if self.failure is not None:
            raise self.failure
        self.adopted.append(sha256)
        return None

    async def read_of(
        self, owner: str, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncIterator[bytes]:
        yield b"0123456789"


@dataclass
class FakeFits:
    """Says that LoRAs fit, unless told otherwise."""

    failure: DomainError | None = None

    def check(self, lora: Model, model: Model) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class FakePictures:
    """Says that any picture is ready, in the size that is asked for."""

    asked: list[tuple[InputImage, str, Canvas, ResizeFit]] = field(default_factory=list)
    controls: list[ControlPreprocessor | None] = field(default_factory=list)
    failure: DomainError | None = None
    mask_size: tuple[int, int] = (400, 300)
    mask_range: tuple[int, int] = (0, 255)

    async def prepare(
        self,
        image: InputImage,
        field: str,
        canvas: Canvas,
        fit: ResizeFit,
        control: ControlPreprocessor | None = None,
        *,
        grey: bool = False,
    ) -> KeptPicture:
        self.asked.append((image, field, canvas, fit))
        self.controls.append(control)
        if self.failure is not None:
            raise self.failure
        source = self.mask_size if grey else (400, 300)
        width, height = canvas.size_for(*source)
        prepared = PreparedPicture(Path("picture.rgb"), width, height, "b" * 64, grey)
        file = PictureFile("c" * 64, artifact=image.inline is None)
        report = PictureReport(width, height, *source, *self.mask_range)
        return KeptPicture(prepared, file, report, lambda path: None)


@dataclass
class FakePausedFiles:
    """Files that are never there; tells which are to be deleted."""

    made: int = 0
    removed: list[Path] = field(default_factory=list)

    def sweep(self) -> None:
        """Nothing is left of anybody."""

    def new(self) -> Path:
        self.made += 1
        return Path(f"{self.made}.paused")

    def remove(self, path: Path) -> None:
        self.removed.append(path)


@dataclass
class Guard:
    """The server's default safety policy and others, the classifiers, what was decided."""

    policy: SafetyPolicy | None = None
    others: dict[str, SafetyPolicy] = field(default_factory=dict)
    installed: dict[str, str] = field(default_factory=lambda: {"opennsfw": "1"})
    decided: list[SafetyVerdict] = field(default_factory=list)

    def named(self, policy_id: str, field: str) -> SafetyPolicy:
        """See the port `Policies` of chains."""
        found = self.others.get(policy_id) if policy_id else self.policy
        if found is None:
            raise NotFound(f"no such policy: {field}", reason=Reason.POLICY_NOT_FOUND)
        return found


@dataclass
class Bench:
    """Everything a test of generations handles."""

    generations: Generations
    batches: GenerationBatches
    sessions: Sessions
    pool: FakePool
    models: FakeModels
    artifacts: FakeArtifacts
    pictures: FakePictures
    paused: FakePausedFiles
    statistics: StatisticsKeeper
    machine: FakeMachine
    fits: FakeFits
    image_prompt_fits: FakeImagePromptFits
    guard: Guard
    preparer: GenerationPreparer
    forecasts: Forecasts
    steps: StepStatistics

    def run(self, wanted: GenerationRequest) -> AsyncGenerator[SessionEvent]:
        """The generation's events, as its call gets them."""
        runner = runner_of(self.sessions, self.artifacts)
        return runner.run(self.generations.generate(wanted), wanted.delivery)


def marks_at(folder: Path) -> Provenance:
    """Marks where nobody asks for them but requests; the folder is made with the first."""
    secrets = SecretsFolder(folder)
    return Provenance(PictureMarks(), Signer(secrets, None, None, None, "0"), secrets)


NO_MARKS = marks_at(Path("nowhere"))
"""For what is told and not done."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    pool, models, artifacts = FakePool(), FakeModels(), FakeArtifacts()
    pictures, paused = FakePictures(), FakePausedFiles()
    statistics = StatisticsKeeper(TransientFacts(), Clock())
    machine, fits, image_prompt_fits = FakeMachine(), FakeFits(), FakeImagePromptFits()
    sessions = Sessions(
        describe=describe_failure,
        queue_length=8,
        slice_seconds=30.0,
        retention=timedelta(seconds=60),
        kept=100,
        clock=Clock(),
        changes=changes_of(Clock()),
    )
    guard = Guard()
    safeguards = Safeguards(
        lambda: guard.policy,
        lambda: guard.installed,
        lambda session_id, verdict: guard.decided.append(verdict),
    )
    provenance = marks_at(tmp_path / "provenance")
    preparer = GenerationPreparer(
        models,
        fits,
        image_prompt_fits,
        ChainPreparer(models, pictures, None, guard),
        provenance,
        safeguards,
        random_seed=lambda: 4_294_967_295,
    )
    steps = StepStatistics(TransientFacts(), Clock())
    drawing = Drawing(
        models,
        pool,
        Keeping(provenance, artifacts),
        safeguards,
        steps,
        software_versions=lambda _: {"torch": "2"},
    )
    forecasts = Forecasts(sessions.speeds, FakeDevices(), lambda: cast("Any", machine))
    generations = Generations(
        sessions,
        place,
        preparer,
        drawing,
        pictures,
        paused,
        statistics,
        forecasts,
        describe=describe_failure,
    )
    batches = GenerationBatches(
        sessions,
        place,
        preparer,
        drawing,
        pictures,
        paused,
        statistics,
        describe=describe_failure,
    )
    yield Bench(
        generations,
        batches,
        sessions,
        pool,
        models,
        artifacts,
        pictures,
        paused,
        statistics,
        machine,
        fits,
        image_prompt_fits,
        guard,
        preparer,
        forecasts,
        steps,
    )
    await sessions.stop(0)


def request(
    settings: GenerationSettings | None = None,
    *,
    options: WorkOptions | None = None,
    digest: bytes = b"",
    placement: Placement | None = None,
    image: InputImage | None = None,
    controls: tuple[ControlInput, ...] = (),
    image_prompts: tuple[ImagePromptInput, ...] = (),
    mask: InputImage | None = None,
    chain: AskedChain | None = None,
) -> GenerationRequest:
    """A request for two steps unless told otherwise."""
    return GenerationRequest(
        settings or GenerationSettings(prompt="a cat", steps=2, seed=1),
        options or WorkOptions(),
        placement or ANY_DEVICE,
        digest,
        image=image,
        controls=controls,
        image_prompts=image_prompts,
        mask=mask,
        chain=chain or AskedChain(),
    )
