"""What a device's worker can be asked to do with a model beside drawing."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from domains.codec import FEW, ModelId, Value
from domains.device.types import Components
from domains.session.jobs import Job, ModelFiles
from domains.values import CachedModel, ModelOrigin, ModelPlace, PartDataType

PartDataTypes = Annotated[tuple[PartDataType, ...], Meta(max_length=8)]


class LoadReport(Value, frozen=True):
    """The model on the device, where it was before, and which models made room for it."""

    loaded: Components
    origin: ModelOrigin
    evicted_model_ids: Annotated[tuple[ModelId, ...], FEW] = ()


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
