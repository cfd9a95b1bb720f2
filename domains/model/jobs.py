"""What a device's worker can be asked to do with a model beside drawing."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from domains.codec import FEW, ModelId, Seconds, Text, Value
from domains.device.types import Components
from domains.session.jobs import Job, ModelFiles
from domains.session.types import Edge
from domains.values import ByteFigure, CachedModel, ModelOrigin, ModelPlace, PartDataType

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
    throw-away step with it. `cached` is what main memory has of it.
    """

    model_id: ModelId
    place: ModelPlace
    cached: CachedModel | None = None
    data_types: PartDataTypes = ()
    warm_up: bool = False

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
