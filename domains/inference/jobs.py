"""What a device's worker can be asked to draw."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta, structs

from domains.chain.jobs import judged_by, models_of
from domains.chain.types import Steps
from domains.codec import FEW, Count, ModelId, Seconds, Value
from domains.errors import Failure
from domains.inference.types import Computation, GenerationSettings, PrecisionMode
from domains.model.types import ModelType, loads
from domains.picture.types import PreparedPicture
from domains.provenance.types import MarkKey
from domains.safety import SafetyPolicy
from domains.session.jobs import Job, ModelFiles
from domains.session.types import (
    ImageDecoded,
    ImageResult,
    PhaseStarted,
    PieceFinished,
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
    PictureMarks,
)

MOST_IMAGES = 256
"""Pictures of all generations that are drawn in one go."""
TriggerWord = Annotated[str, Meta(max_length=256)]


class Timings(Value, frozen=True):
    """Seconds spent per phase, summed over pictures."""

    load: Seconds = 0.0
    encode_text: Seconds = 0.0
    prepare_input: Seconds = 0.0
    denoise: Seconds = 0.0
    refine: Seconds = 0.0
    decode: Seconds = 0.0
    encode_image: Seconds = 0.0
    postprocess: Seconds = 0.0

    def __add__(self, other: Timings) -> Timings:
        """The sum of both."""
        both = zip(structs.astuple(self), structs.astuple(other), strict=True)
        return Timings(*(mine + theirs for mine, theirs in both))


class GenerationReport(Value, frozen=True):
    """What was used and how long it took, once every picture is out."""

    timings: Timings
    precision: PrecisionMode
    origin: ModelOrigin
    data_types: Annotated[tuple[PartDataType, ...], FEW]
    computed: Computation
    degradations: Annotated[tuple[Degradation, ...], FEW] = ()


class PausedGeneration(Value, frozen=True):
    """What was done before it paused. Of the picture that is not finished `kept_steps` are
    kept; 0 where it begins anew."""

    timings: Timings
    degradations: Annotated[tuple[Degradation, ...], FEW] = ()
    data_types: Annotated[tuple[PartDataType, ...], FEW] = ()
    computed: Computation = Computation()
    kept_steps: Count = 0


class Companion(Value, frozen=True):
    """A model that a generation uses beside its checkpoint, and where it lies. `cached` is what
    main memory has of it; `trigger_words` are those of an embedding."""

    model_id: ModelId
    model_type: ModelType
    place: ModelPlace
    cached: CachedModel | None = None
    trigger_words: Annotated[tuple[TriggerWord, ...], FEW] = ()


class ControlPictures(Value, frozen=True):
    """A ControlNet's pictures: one for all that are drawn, or one for each; and where it works.

    All have the size of the settings; `larger` are the same in that of a second pass, where it
    is another.
    """

    images: Annotated[tuple[PreparedPicture, ...], FEW]
    mask: PreparedPicture | None = None
    larger: ControlPictures | None = None

    def of_size(self, size: tuple[int, int]) -> ControlPictures:
        """Those of that width and height."""
        first = self.images[0]
        if self.larger is None or (first.width, first.height) == size:
            return self
        return self.larger


class ImagePromptPictures(Value, frozen=True):
    """The pictures of an image prompt in their own sizes, and where it works: a mask in each
    size that is drawn, or none for everywhere."""

    images: Annotated[tuple[PreparedPicture, ...], FEW]
    masks: Annotated[tuple[PreparedPicture, ...], FEW] = ()

    def mask_of(self, size: tuple[int, int]) -> PreparedPicture | None:
        """The mask of that width and height."""
        return next((each for each in self.masks if (each.width, each.height) == size), None)


class GenerationJob(Job[GenerationReport | PausedGeneration], frozen=True):
    """Draw one picture per seed of resolved settings, each as if alone.

    `previews` shows them while they form; `cached` is what main memory has of the model,
    `companions` are the other models that the settings name, each once. `picture` is what
    a generation starts from, in the settings' width and height; `mask` is as large and grey.
    `controls` are the pictures of the settings' ControlNets, in their order, and
    `image_prompts` those of its image prompts. `steps` finish each picture that is drawn, to
    what is `finished_width` and `finished_height`.

    `mark_key` is the secret of the mark that the pictures are to bear, None for none.

    `policy` judges every picture once its steps are done; None lets them pass.

    A job that goes on after a pause begins with the picture `first_image`. `paused_file` is
    where a pause keeps an unfinished picture; where `kept_steps` of one were kept, it is there.
    """

    events: ClassVar[tuple[type, ...]] = (
        PhaseStarted,
        TransferProgress,
        TextEncoded,
        StepFinished,
        Preview,
        ImageDecoded,
        PieceFinished,
    )

    settings: GenerationSettings
    place: ModelPlace
    previews: PreviewSettings = PreviewSettings()
    cached: CachedModel | None = None
    companions: Annotated[tuple[Companion, ...], FEW] = ()
    picture: PreparedPicture | None = None
    mask: PreparedPicture | None = None
    controls: Annotated[tuple[ControlPictures, ...], FEW] = ()
    image_prompts: Annotated[tuple[ImagePromptPictures, ...], FEW] = ()
    mark_key: MarkKey | None = None
    policy: SafetyPolicy | None = None
    first_image: Count = 0
    paused_file: Path | None = None
    kept_steps: Count = 0
    steps: Steps = ()
    finished_width: Count = 0
    finished_height: Count = 0

    @property
    def finished_size(self) -> tuple[int, int]:
        """Width and height of the files."""
        if not self.steps:
            return self.settings.result_size
        return self.finished_width, self.finished_height

    @property
    def judged(self) -> bool:
        """Whether there is a verdict on each picture, which may withhold it."""
        return self.policy is not None or judged_by(self.steps)

    @property
    def image_count(self) -> int:
        """One for each seed."""
        return len(self.settings.seeds)

    @property
    def goes_on(self) -> bool:
        """Whether something of a picture was kept."""
        return self.kept_steps > 0

    def due_images(self, report: GenerationReport | PausedGeneration) -> int:
        """Every picture that was not finished before."""
        return 0 if self.paused(report) else self.image_count - self.first_image

    def paused(self, report: GenerationReport | PausedGeneration) -> bool:
        """Whether it can go on."""
        return isinstance(report, PausedGeneration)

    @property
    def model(self) -> ModelFiles:
        """What draws, and its companions: any of them may be what ends a worker."""
        beside = (
            *(ModelFiles(each.model_id, each.place.path) for each in self.companions),
            *(ModelFiles(each.model_id, each.place.path) for each in models_of(self.steps)),
        )
        return ModelFiles(self.settings.model_id, self.place.path, beside)

    @property
    def places(self) -> Mapping[str, ModelPlace]:
        """See `Job`."""
        return {self.settings.model_id: self.place} | {
            each.model_id: each.place for each in self.companions if loads(each.model_type)
        }

    def with_cached(self, cached: Mapping[str, CachedModel]) -> GenerationJob:
        """See `Job`."""
        return structs.replace(
            self,
            cached=cached.get(self.settings.model_id),
            companions=tuple(
                structs.replace(each, cached=cached.get(each.model_id))
                for each in self.companions
            ),
        )

    def companion(self, model_id: str) -> Companion:
        """The one of that id."""
        return next(each for each in self.companions if each.model_id == model_id)

    def accepts(self, image: ImageResult) -> bool:
        """Whether seed, format, size and mark are those asked for, and it is judged."""
        marked = self.mark_key is not None
        settings = self.settings
        return (
            image.image_index >= self.first_image
            and image.seed == settings.seeds[image.image_index]
            and image.format is settings.output.format
            and image.provenance == PictureMarks(watermark=marked and not image.withheld)
            and (image.width, image.height) == self.finished_size
            and (image.safety is not None) is self.judged
        )


class PausedPart(Value, frozen=True):
    """One of several generations that did not end, by its position."""

    part: Count
    report: PausedGeneration


class SharedReport(Value, frozen=True):
    """Which of several generations were paused; all others have ended."""

    paused: Annotated[tuple[PausedPart, ...], FEW] = ()


class SharedGenerationJob(Job[SharedReport], frozen=True):
    """Draw several generations in one go; those that go together share passes of the denoiser.

    Its parts: each ends by itself, in any order. Their pictures are counted on, from those of
    one to those of the next. `finished` are those that are out already, of each generation not
    all.
    """

    events: ClassVar[tuple[type, ...]] = GenerationJob.events
    part_type: ClassVar[Any] = GenerationReport | Failure

    jobs: Annotated[tuple[GenerationJob, ...], FEW]
    finished: Annotated[tuple[Count, ...], Meta(max_length=MOST_IMAGES)] = ()

    @property
    def image_count(self) -> int:
        """Of all."""
        return sum(job.image_count for job in self.jobs)

    @property
    def firsts(self) -> tuple[int, ...]:
        """The number of the first picture of each."""
        return tuple(accumulate((job.image_count for job in self.jobs[:-1]), initial=0))

    def at(self, image_index: int) -> int:
        """The position of the generation that has the picture of that number."""
        return bisect_right(self.firsts, image_index) - 1

    def due_from(self, part: int, outcome: GenerationReport | Failure) -> Collection[int]:
        """Every picture of one that worked, but for what was finished before."""
        first, count = self.firsts[part], self.jobs[part].image_count
        if isinstance(outcome, Failure):
            return ()
        return set(range(first, first + count)).difference(self.finished)

    def due_parts(self, report: SharedReport) -> Collection[int]:
        """All but those that were paused."""
        return set(range(len(self.jobs))).difference(each.part for each in report.paused)

    def paused(self, report: SharedReport) -> bool:
        """Whether one of them can go on."""
        return bool(report.paused)

    @property
    def model(self) -> ModelFiles:
        """The first one's, and beside it those of all."""
        first, *others = (job.model for job in self.jobs)
        beside = chain(first.beside, *((each, *each.beside) for each in others))
        return replace(first, beside=tuple(dict.fromkeys(beside)))

    @property
    def places(self) -> Mapping[str, ModelPlace]:
        """See `Job`."""
        return {name: place for job in self.jobs for name, place in job.places.items()}

    def with_cached(self, cached: Mapping[str, CachedModel]) -> SharedGenerationJob:
        """See `Job`."""
        return structs.replace(self, jobs=tuple(job.with_cached(cached) for job in self.jobs))

    def accepts(self, image: ImageResult) -> bool:
        """Whether its generation asked for it, and it is not out already."""
        at = self.at(image.image_index)
        own = structs.replace(image, image_index=image.image_index - self.firsts[at])
        return image.image_index not in self.finished and self.jobs[at].accepts(own)
