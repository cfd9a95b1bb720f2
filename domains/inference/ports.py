"""What image generation needs from outside its pure core."""

from __future__ import annotations

from typing import Protocol

from domains.device.jobs import OptimizationJob, OptimizationReport, ReleaseJob, ReleaseReport
from domains.device.types import Device, LoadedComponent
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.model.jobs import (
    BenchmarkJob,
    BenchmarkReport,
    ComparisonJob,
    ComparisonReport,
    LoadJob,
    LoadReport,
)
from domains.model.types import Model, ModelType
from domains.picture.core import KeptPicture
from domains.picture.types import Canvas, ControlPreprocessor, InputImage, ResizeFit
from domains.session.jobs import JobContext
from domains.values import NO_MARKS, PictureMarks, ProvenanceWish


class Engine(Protocol):
    """Draws pictures on one device; one call at a time, in the device's own process."""

    def generate(
        self, job: GenerationJob, context: JobContext
    ) -> GenerationReport | PausedGeneration:
        """Draw every picture of `job` that was not finished before.

        The context's `check_stop` is called before and after loading each component, at
        every denoising step, before and after decoding. Where it raises WorkPaused, the
        picture is kept as it is then, and drawn on from there by the next job with that
        file, to the same bytes; one whose file is gone or no good is drawn anew.

        Raises:
            DomainError: The model cannot be loaded, memory ran out, or the result
                is not finite.
        """
        ...

    def optimize(self, job: OptimizationJob, context: JobContext) -> OptimizationReport:
        """Run with a profile from here on, and measure one real step before and after.

        Loads the model of `job` and leaves it loaded. When it raises, the profile is the
        one before.

        Raises:
            DomainError: As `generate`.
        """
        ...

    def load(self, job: LoadJob, context: JobContext) -> LoadReport:
        """Have a model ready for requests that leave their precision open.

        When it raises, nothing is half loaded.

        Raises:
            DomainError: As `generate`, as far as it is about loading.
        """
        ...

    def benchmark(self, job: BenchmarkJob, context: JobContext) -> BenchmarkReport:
        """Measure how fast a model is loaded and computes; it is held afterwards as before.

        Raises:
            DomainError: As `generate`.
        """
        ...

    def compare(self, job: ComparisonJob, context: JobContext) -> ComparisonReport:
        """Draw a picture with each of two models and say how like they are; what is held
        afterwards was held before.

        Raises:
            DomainError: As `generate`.
        """
        ...

    def release(self, job: ReleaseJob, context: JobContext) -> ReleaseReport:
        """Let loaded models go, and load them again where `job` says so.

        Models that are not loaded are no error: they are not in the report.

        Raises:
            DomainError: As `generate`, as far as it is about loading again.
        """
        ...

    def held(self) -> tuple[LoadedComponent, ...]:
        """The networks that are loaded, as of now. From any thread; never waits."""
        ...


class Devices(Protocol):
    """The machine's devices, as image generation sees them."""

    async def resolve(self, name: str) -> Device:
        """The device of that id or alias; the default device for "".

        Raises:
            NotFound: DEVICE_NOT_FOUND.
            Unavailable: The device cannot be used.
        """
        ...


class Models(Protocol):
    """The model catalogue, as image generation sees it."""

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
        """The usable model of that id, of one of the types; the default checkpoint for "".
        `masks` says that one will do that takes masks, `vae` that one will that has no VAE,
        `field` where the request has the id.

        Raises:
            NotFound: MODEL_NOT_FOUND.
            FailedPrecondition: It cannot be used, by its header, or so.
        """
        ...

    async def of_type(self, type: ModelType) -> tuple[Model, ...]:
        """Every usable model of that type, in no order."""
        ...

    async def companions_of(self, model: Model, type: ModelType) -> tuple[Model, ...]:
        """Usable models of a type that go with a checkpoint, by architecture."""
        ...

    def record_use(self, model_id: str) -> None:
        """Note that work with the model begins."""
        ...

    def sha256_of(self, model: Model) -> str:
        """The model's hash as far as it is known by now; empty where it is not, or where the
        model is no longer as it was."""
        ...


class LoraFits(Protocol):
    """Holds LoRAs against checkpoints by their headers."""

    def check(self, lora: Model, model: Model) -> None:
        """Refuse a LoRA that cannot be applied to a checkpoint. Blocks: call it off the loop.

        Raises:
            FailedPrecondition: Its layers are not the checkpoint's, it is damaged, or of a kind
                that is not applied.
            DomainError: A file cannot be read now.
        """
        ...


class ImagePromptFits(Protocol):
    """Holds IP-Adapters against checkpoints and image encoders by their headers."""

    def check(self, adapter: Model, model: Model) -> None:
        """Refuse an adapter whose layers are not those of a checkpoint's denoiser. Blocks: call
        it off the loop.

        Raises:
            FailedPrecondition: MODEL_INCOMPATIBLE, it is damaged, or of a kind that is not
                applied.
            DomainError: A file cannot be read now.
        """
        ...

    def reads(self, adapter: Model, encoder: Model) -> bool:
        """Whether an encoder gives embeddings of the width that an adapter takes. Blocks.

        Raises:
            FailedPrecondition: One of them is damaged, or of a kind that is not applied.
            DomainError: A file cannot be read now.
        """
        ...


class PicturePreparer(Protocol):
    """Input pictures, as image generation sees them."""

    async def prepare(
        self,
        image: InputImage,
        field: str,
        canvas: Canvas,
        fit: ResizeFit,
        *,
        control: ControlPreprocessor | None = None,
        grey: bool = False,
    ) -> KeptPicture:
        """Decode the picture that the call's client names in `field`, in the canvas's size, and
        make a control picture of it where `control` says how; of a `grey` one the brightness
        alone counts.

        Raises:
            InvalidPicture: It cannot be used.
            DomainError: It is not there, or cannot be stored or read now.
        """
        ...


class Provenance(Protocol):
    """Decides which marks pictures get; see the domain for errors."""

    @property
    def no_manifests(self) -> str:
        """Why manifests cannot be asked for here; empty where they can."""
        ...

    async def decide(
        self,
        wish: ProvenanceWish,
        size: tuple[int, int],
        field: str,
        policy: PictureMarks = NO_MARKS,
    ) -> PictureMarks:
        """The marks that a picture of this size gets, those of `policy` at least."""
        ...

    async def mark_key(self) -> str:
        """What workers mark pictures with."""
        ...
