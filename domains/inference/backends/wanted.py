"""What work asks the loader for."""

from __future__ import annotations

from dataclasses import dataclass

from domains.inference.types import PrecisionMode
from domains.model.types import ModelType
from domains.values import CachedModel, ModelPlace, PartDataType


@dataclass(frozen=True)
class WantedModel:
    """A model that work needs.

    `data_types` are those of its parts that somebody chose, `cached` is what main memory has
    of it. A model that is one network computes as its kind does there: `precision` is for
    those that draw.
    """

    model_id: str
    place: ModelPlace
    precision: PrecisionMode = PrecisionMode.OPEN
    data_types: tuple[PartDataType, ...] = ()
    cached: CachedModel | None = None
    type: ModelType = ModelType.CHECKPOINT
