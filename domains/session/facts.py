"""What a finished generation can tell about what drew it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from domains.values import DataType


class ModelOrigin(Enum):
    """Where a model was when it was needed."""

    LOADED = "loaded"
    CACHED = "cached"
    DISK = "disk"


@dataclass(frozen=True)
class ModelUse:
    """A model's part in a generation: `role` is the kind of model it was used as, `sha256`
    the hash over its weight files, empty while nobody has computed it.
    """

    model_id: str
    role: str
    sha256: str = ""


@dataclass(frozen=True)
class GenerationFacts:
    """What drew the pictures."""

    model_id: str
    unet_data_type: DataType
    vae_data_type: DataType
    channels_last: bool
    steps: int
    software_versions: Mapping[str, str] = field(default_factory=dict)
    model_origin: ModelOrigin | None = None
    models: tuple[ModelUse, ...] = ()
