"""What a device's worker can be asked to draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from msgspec.structs import replace

from domains.codec import FEW, ModelId, Seconds, Value
from domains.inference.types import GenerationSettings, PrecisionMode
from domains.model.types import ModelType, loads
from domains.picture.types import PreparedPicture
from domains.session.jobs import Job, ModelFiles
from domains.session.types import (
    ImageDecoded,
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
    refine: Seconds = 0.0
    decode: Seconds = 0.0
    encode_image: Seconds = 0.0


class GenerationReport(Value, frozen=True):
    """What was used and how long it took, once every picture is out."""

    timings: Timings
    precision: PrecisionMode
    origin: ModelOrigin
    data_types: Annotated[tuple[PartDataType, ...], FEW]
    channels_last: bool
    degradations: Annotated[tuple[Degradation, ...], FEW] = ()


class Companion(Value, frozen=True):
    """A model that a generation uses beside its checkpoint, and where it lies. `cached` is what
    main memory has of it."""

    model_id: ModelId
    model_type: ModelType
    place: ModelPlace
    cached: CachedModel | None = None


class GenerationJob(Job[GenerationReport], frozen=True):
    """Draw one picture per seed of resolved settings, each as if alone.

    `previews` shows them while they form; `cached` is what main memory has of the model,
    `companions` are the other models that the settings name, each once. `picture` is what
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
    companions: Annotated[tuple[Companion, ...], FEW] = ()
    picture: PreparedPicture | None = None

    @property
    def image_count(self) -> int:
        """One for each seed."""
        return len(self.settings.seeds)

    @property
    def due_images(self) -> int:
        """Every picture."""
        return self.image_count

    @property
    def model(self) -> ModelFiles:
        """What draws, and its companions: any of them may be what ends a worker."""
        beside = tuple(ModelFiles(each.model_id, each.place.path) for each in self.companions)
        return ModelFiles(self.settings.model_id, self.place.path, beside)

    @property
    def places(self) -> Mapping[str, ModelPlace]:
        """See `Job`."""
        return {self.settings.model_id: self.place} | {
            each.model_id: each.place for each in self.companions if loads(each.model_type)
        }

    def with_cached(self, cached: Mapping[str, CachedModel]) -> GenerationJob:
        """See `Job`."""
        return replace(
            self,
            cached=cached.get(self.settings.model_id),
            companions=tuple(
                replace(each, cached=cached.get(each.model_id)) for each in self.companions
            ),
        )

    def companion(self, model_id: str) -> Companion:
        """The one of that id."""
        return next(each for each in self.companions if each.model_id == model_id)

    def accepts(self, image: ImageResult) -> bool:
        """Whether seed, format and size are those asked for."""
        settings = self.settings
        return (
            image.seed == settings.seeds[image.image_index]
            and image.format is settings.output.format
            and (image.width, image.height) == settings.size
        )
