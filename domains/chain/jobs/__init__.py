"""What a device's worker can be asked to do with a finished picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from domains.chain.types import (
    FaceRestoreStep,
    RestorerModel,
    SafetyStep,
    Step,
    Steps,
    UpscalerModel,
    UpscaleStep,
)
from domains.codec import Count, Name, Seconds, Value
from domains.model.jobs import MOST_DB
from domains.picture.types import PictureMetadata, PreparedPicture
from domains.provenance.types import MarkKey
from domains.safety import Findings
from domains.session.jobs import Job, ModelFiles
from domains.session.types import (
    Edge,
    ImageResult,
    PhaseStarted,
    PieceFinished,
    Preview,
    PreviewSettings,
)
from domains.values import ByteFigure, OutputSettings, PictureMarks

MOST_RUNS = 100
"""Measured runs of a step."""


class ChainReport(Value, frozen=True):
    """Seconds that loading networks, the steps and the file took."""

    load: Seconds
    postprocess: Seconds
    encode_image: Seconds


class ChainKept(Value, frozen=True):
    """What is kept of a chain: steps, and tiles of the one after them where that is an
    upscaling. `lost_tiles` is whether it had tiles that could not be kept; every other step
    that was at work begins anew."""

    steps: Count = 0
    tiles: Count = 0
    lost_tiles: bool = False


class PausedChain(Value, frozen=True):
    """Seconds that loading networks and the steps took before it paused, and what is kept."""

    load: Seconds
    postprocess: Seconds
    kept: ChainKept = ChainKept()


class ChainJob(Job[ChainReport | PausedChain], frozen=True):
    """Do a chain on a picture, and make a file of what it comes to.

    `paused_file` is where a pause keeps what it has come to; where `kept_steps` or `kept_tiles`
    of the step after them were kept, it is there.

    `width` and `height` are the size that the result must have. Networks compute in float32
    with `exact`. `mark_key` is the secret of the mark that it is to bear, None for none. The
    file says `metadata` as well. `previews` shows the picture in between.
    """

    events: ClassVar[tuple[type, ...]] = (PhaseStarted, PieceFinished, Preview)

    picture: PreparedPicture
    steps: Steps
    width: Edge
    height: Edge
    output: OutputSettings
    exact: bool = False
    mark_key: MarkKey | None = None
    metadata: PictureMetadata | None = None
    paused_file: Path | None = None
    kept_steps: Count = 0
    kept_tiles: Count = 0
    previews: PreviewSettings = PreviewSettings()

    @property
    def goes_on(self) -> bool:
        """Whether something was kept."""
        return self.kept_steps + self.kept_tiles > 0

    @property
    def image_count(self) -> Count:
        """One."""
        return 1

    @property
    def model(self) -> ModelFiles | None:
        """The first model of its steps, and the others beside it."""
        files = [ModelFiles(each.model_id, each.place.path) for each in models_of(self.steps)]
        if not files:
            return None
        first, *others = files
        return ModelFiles(first.model_id, first.path, tuple(others))

    def due_images(self, report: ChainReport | PausedChain) -> int:
        """The result, once it is there."""
        return 0 if self.paused(report) else 1

    def paused(self, report: ChainReport | PausedChain) -> bool:
        """Whether it stopped between two tiles or steps."""
        return isinstance(report, PausedChain)

    def accepts(self, image: ImageResult) -> bool:
        """Whether format, size and mark are those asked for, and it is judged if it must be."""
        marked = self.mark_key is not None
        return (
            image.seed is None
            and (image.safety is not None) is judged_by(self.steps)
            and image.format is self.output.format
            and image.provenance == PictureMarks(watermark=marked and not image.withheld)
            and (image.width, image.height) == (self.width, self.height)
        )


def models_of(steps: Steps) -> tuple[UpscalerModel | RestorerModel, ...]:
    """The models of a chain, each once."""
    found = (step.model for step in steps if isinstance(step, UpscaleStep | FaceRestoreStep))
    return tuple(dict.fromkeys(each for each in found if each is not None))


def judged_by(steps: Steps) -> bool:
    """Whether a step of a chain comes to a verdict."""
    return any(isinstance(step, SafetyStep) for step in steps)


MOST = 16
"""Pictures of a check."""


class SafetyFindings(Value, frozen=True):
    """What classifiers say of each picture, in their order, and the seconds it took."""

    findings: Annotated[tuple[Findings, ...], Meta(max_length=MOST)]
    seconds: Seconds


class SafetyCheckJob(Job[SafetyFindings], frozen=True):
    """Score pictures by these classifiers; none means all that are installed."""

    pictures: Annotated[tuple[PreparedPicture, ...], Meta(max_length=MOST)]
    classifiers: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()

    @property
    def image_count(self) -> int:
        """Events are about that many pictures; none is made."""
        return len(self.pictures)


class PictureQuality(Value, frozen=True):
    """How near a picture comes to what it should be: peak signal-to-noise ratio in decibels,
    `MOST_DB` for equal ones, and structural similarity; None where it is too small for that."""

    psnr_db: Annotated[float, Meta(ge=0, le=MOST_DB)]
    ssim: Annotated[float, Meta(ge=-1, le=1)] | None = None


class StepBenchmarkReport(Value, frozen=True):
    """Seconds of each run, and the most memory that the device held meanwhile.

    `quality` is that of the result where there is a reference, `baseline` what it would be
    without the step; None where that could not be compared.
    """

    run: Annotated[tuple[Seconds, ...], Meta(max_length=MOST_RUNS)]
    peak_memory: ByteFigure
    quality: PictureQuality | None = None
    baseline: PictureQuality | None = None


class StepBenchmarkJob(Job[StepBenchmarkReport], frozen=True):
    """Measure a step: so many runs, after one that is not measured.

    It is done on `picture`, or on a square synthetic one with edges of `input_pixels`. The
    `reference` is what should come of it, in the result's size and without alpha.
    """

    events: ClassVar[tuple[type, ...]] = (PhaseStarted, PieceFinished)

    step: Step
    input_pixels: Edge
    runs: Annotated[int, Meta(ge=1, le=MOST_RUNS)]
    picture: PreparedPicture | None = None
    reference: PreparedPicture | None = None

    @property
    def image_count(self) -> Count:
        """One: the picture that it measures with."""
        return 1

    @property
    def model(self) -> ModelFiles | None:
        """That of the step, where it has one."""
        found = models_of((self.step,))
        return ModelFiles(found[0].model_id, found[0].place.path) if found else None
