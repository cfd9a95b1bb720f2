"""What a device's worker can be asked to do with a model beside drawing."""

from __future__ import annotations

from domains.codec import ModelId, Value
from domains.device.types import Components
from domains.session.jobs import Job, ModelFiles
from domains.values import CachedModel, ModelOrigin, ModelPlace


class LoadReport(Value, frozen=True):
    """What is on the device now, and where it was before."""

    loaded: Components
    origin: ModelOrigin


class LoadJob(Job[LoadReport], frozen=True):
    """Load a model as a generation that leaves its precision open would.

    `cached` is what main memory has of it.
    """

    model_id: ModelId
    place: ModelPlace
    cached: CachedModel | None = None

    @property
    def model(self) -> ModelFiles:
        """What is loaded."""
        return ModelFiles(self.model_id, self.place.path)
