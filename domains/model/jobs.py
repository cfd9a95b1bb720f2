"""What a device's worker, or the inspector, can be asked to do with a model beside drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta

from domains.codec import (
    FEW,
    ByteCount,
    Count,
    FieldPath,
    ModelId,
    Seconds,
    Text,
    Value,
    one_line,
)
from domains.device.types import Components
from domains.errors import DomainError, Reason
from domains.model.types import ModelType
from domains.model.views import ValidationDepth
from domains.session.jobs import Job, ModelFiles
from domains.session.types import Edge
from domains.values import (
    ByteFigure,
    CachedModel,
    ModelOrigin,
    ModelPlace,
    PartDataType,
    TensorDataType,
)

MAX_FINDINGS = 100
MOST_DB = 100.0
_LONGEST_NAME = 256
_MOST_LEFT_OUT = 64
PartDataTypes = Annotated[tuple[PartDataType, ...], Meta(max_length=8)]


class LoadReport(Value, frozen=True):
    """The model on the device, where it was before, and which models made room for it."""

    loaded: Components
    origin: ModelOrigin
    evicted_model_ids: Annotated[tuple[ModelId, ...], FEW] = ()
    lock_problem: Text | None = None
    """Why the cache is not page-locked for the device; empty where it is, None where nobody
    tried."""


class LoadJob(Job[LoadReport], frozen=True):
    """Load a model as a generation that leaves its precision open would.

    `data_types` are those that a client chose, in the order of the parts; `warm_up` draws a
    throw-away step with it, or runs once what cannot draw alone. `cached` is what main memory
    has of it; `model_type` is one of `WHOLE_MODELS` or `LONE_NETWORKS`.
    """

    model_id: ModelId
    place: ModelPlace
    cached: CachedModel | None = None
    data_types: PartDataTypes = ()
    warm_up: bool = False
    model_type: ModelType = ModelType.CHECKPOINT

    @property
    def image_count(self) -> int:
        """One where a throw-away step is drawn."""
        return int(self.warm_up)

    @property
    def model(self) -> ModelFiles:
        """What is loaded."""
        return ModelFiles(self.model_id, self.place.path)


Times = Annotated[tuple[Seconds, ...], Meta(max_length=1_000)]


class BenchmarkReport(Value, frozen=True):
    """How long a model's work took each time, and the most memory of the device meanwhile.

    `switch` is empty where main memory did not have the whole model.
    """

    load: Times
    switch: Times
    encode: Times
    step: Times
    decode: Times
    peak_memory: ByteFigure
    data_types: PartDataTypes
    channels_last: bool


class BenchmarkJob(Job[BenchmarkReport], frozen=True):
    """Measure a model; the device holds afterwards what it held before.

    `width` and `height` are in pixels, `steps` are measured after one that is not.
    """

    model_id: ModelId
    place: ModelPlace
    width: Edge
    height: Edge
    steps: Annotated[int, Meta(ge=1, le=1_000)]
    cached: CachedModel | None = None

    @property
    def image_count(self) -> int:
        """One: the picture that it measures with."""
        return 1

    @property
    def model(self) -> ModelFiles:
        """What is measured."""
        return ModelFiles(self.model_id, self.place.path)


class ComparisonReport(Value, frozen=True):
    """How like each other two pictures are: their peak signal-to-noise ratio in decibels,
    `MOST_DB` where every pixel is the same."""

    similarity_db: Annotated[float, Meta(ge=0, le=MOST_DB)]


class ComparisonJob(Job[ComparisonReport], frozen=True):
    """Draw one picture with each of two models, with the same seed; the device holds afterwards
    what it held before."""

    model_id: ModelId
    place: ModelPlace
    other_model_id: ModelId
    other_place: ModelPlace

    @property
    def image_count(self) -> int:
        """One: they are the same picture."""
        return 1

    @property
    def model(self) -> ModelFiles:
        """What the other one was made of."""
        return ModelFiles(self.model_id, self.place.path)


class Finding(Value, frozen=True):
    """Something wrong with a model: in which component or file, and in which tensor."""

    reason: Reason
    component: FieldPath
    tensor: FieldPath
    description: Text

    @classmethod
    def of(cls, error: DomainError) -> Self:
        """What an error says of a model's files."""
        about = error.metadata
        place = about.get("component") or about.get("file") or about.get("missing") or ""
        return cls(
            error.reason,
            one_line(place, _LONGEST_NAME),
            one_line(about.get("tensor", ""), _LONGEST_NAME),
            one_line(error.message),
        )


class InspectionReport(Value, frozen=True):
    """What is wrong with a model's files; `sha256` over its weight files, empty unless they
    were read whole."""

    findings: Annotated[tuple[Finding, ...], Meta(max_length=MAX_FINDINGS)]
    findings_omitted: Count
    sha256: Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z")]


class InspectJob(Job[InspectionReport], frozen=True):
    """Check a model's files, in the inspector."""

    model_id: ModelId
    place: ModelPlace
    depth: ValidationDepth


class ConversionReport(Value, frozen=True):
    """What a conversion wrote: bytes in all, tensors that were pruned, and what else the source
    holds and the result does not, in words."""

    size_bytes: ByteCount
    tensors_pruned: Count
    left_out: Annotated[tuple[Text, ...], Meta(max_length=_MOST_LEFT_OUT)]


class ConvertJob(Job[ConversionReport], frozen=True):
    """Write a model as safetensors into a folder that is empty or to be made, in the inspector.

    A model of one file becomes `file_name` in that folder, a folder becomes its content; with
    `rearrange` a checkpoint of one file becomes a folder's content, and a folder `file_name`.
    Without a data type every tensor keeps its own; `prune` leaves out what only training needs
    from a model of one file. With `spare_vae` a folder's VAE that overflows in 16 bits gets 32,
    unless `vae_data_type` is given.
    """

    model_id: ModelId
    place: ModelPlace
    folder: Path
    file_name: FieldPath
    data_type: TensorDataType | None = None
    vae_data_type: TensorDataType | None = None
    prune: bool = False
    spare_vae: bool = False
    rearrange: bool = False
