"""What a device's worker can be asked to draw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from msgspec.structs import astuple

from domains.codec import FEW, Count, Seconds, Value
from domains.inference.types import GenerationSettings, PrecisionMode
from domains.picture.types import PreparedPicture
from domains.session.jobs import Job, ModelFiles
from domains.session.types import (
    ImageDecoded,
    ImageIndex,
    ImageResult,
    PhaseStarted,
    Preview,
    PreviewSettings,
    StepFinished,
    TextEncoded,
    TransferProgress,
)
from domains.values import (
    CachedModel,
    Degradation,
    ModelOrigin,
    ModelPlace,
    PartDataType,
)


class Timings(Value, frozen=True):
    """Seconds spent per phase, summed over pictures."""

    load: Seconds = 0.0
    encode_text: Seconds = 0.0
    prepare_input: Seconds = 0.0
    denoise: Seconds = 0.0
    decode: Seconds = 0.0
    encode_image: Seconds = 0.0

    def __add__(self, other: Timings) -> Timings:
        """The sum of both."""
        return Timings(
            *(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        )


class GenerationReport(Value, frozen=True):
    """What was used and how long it took, once every picture is out."""

    timings: Timings
    precision: PrecisionMode
    origin: ModelOrigin
    data_types: Annotated[tuple[PartDataType, ...], FEW]
    channels_last: bool
    degradations: Annotated[tuple[Degradation, ...], FEW] = ()


class PausedGeneration(Value, frozen=True):
    """What was done before it paused, at the picture `image_index` after so many `steps` of it
    that are kept; 0 where it begins anew."""

    timings: Timings
    degradations: Annotated[tuple[Degradation, ...], FEW] = ()
    image_index: ImageIndex = 0
    steps: Count = 0


class GenerationJob(Job[GenerationReport | PausedGeneration], frozen=True):
    """Draw one picture per seed of resolved settings, each as if alone.

    A job that goes on after a pause begins with the picture `first_image`; `paused_file` is
    where a pause keeps an unfinished picture, and where the next job finds it.

    `previews` shows them while they form; `cached` is what main memory has of the model,
    `lora_places` where each LoRA of the settings lies, in their order. `picture` is what
    image-to-image starts from; it has the size of the settings.
    """

    events: ClassVar[tuple[type, ...]] = (
        PhaseStarted,
        TransferProgress,
        TextEncoded,
        StepFinished,
        Preview,
        ImageDecoded,
    )

    settings: GenerationSettings
    place: ModelPlace
    previews: PreviewSettings = PreviewSettings()
    cached: CachedModel | None = None
    lora_places: Annotated[tuple[ModelPlace, ...], FEW] = ()
    picture: PreparedPicture | None = None
    first_image: Count = 0
    paused_file: Path | None = None

    @property
    def image_count(self) -> int:
        """One for each seed."""
        return len(self.settings.seeds)

    def due_images(self, report: GenerationReport | PausedGeneration) -> int:
        """Every picture that was not finished before."""
        return 0 if self.paused(report) else self.image_count - self.first_image

    def paused(self, report: GenerationReport | PausedGeneration) -> bool:
        """Whether it can go on."""
        return isinstance(report, PausedGeneration)

    @property
    def model(self) -> ModelFiles:
        """What draws."""
        return ModelFiles(self.settings.model_id, self.place.path)

    def accepts(self, image: ImageResult) -> bool:
        """Whether seed, format and size are those asked for."""
        settings = self.settings
        return (
            image.image_index >= self.first_image
            and image.seed == settings.seeds[image.image_index]
            and image.format is settings.output.format
            and (image.width, image.height) == settings.size
        )
