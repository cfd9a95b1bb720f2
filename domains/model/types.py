"""Model values: what a model is, without opening it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path

from domains.codec import ModelId, Moment, Name, Value
from domains.device.types import Components, Placement
from domains.errors import Reason
from domains.session.types import WorkOptions
from domains.values import ModelOrigin, ModelPlace, TensorDataType


class ModelType(Enum):
    """What a model is for."""

    CHECKPOINT = "checkpoint"
    REFINER = "refiner"
    VAE = "vae"
    LORA = "lora"
    CONTROL_NET = "control-net"
    TEXT_ENCODER = "text-encoder"
    EMBEDDING = "embedding"
    UPSCALER = "upscaler"
    SAFETY_CLASSIFIER = "safety-classifier"


class ModelFormat(Enum):
    """How a model lies on disk."""

    DIFFUSERS_FOLDER = "diffusers-folder"
    SAFETENSORS = "safetensors"
    PICKLE = "pickle"


class Architecture(Enum):
    """The family of networks a model belongs to."""

    SDXL = "sdxl"
    SD1 = "sd1"


class PredictionType(Enum):
    """What the denoiser predicts."""

    EPSILON = "epsilon"
    V_PREDICTION = "v_prediction"
    SAMPLE = "sample"


@dataclass(frozen=True)
class Component:
    """One network or tokenizer of a model.

    `name` is the folder's name (`unet`, `vae`, `text_encoder`), `class_name` the class
    that the model's index gives it. `parameter_count` and `size_bytes` are zero for
    parts without weights and where the model's problem kept them from being read.
    """

    name: str
    class_name: str
    parameter_count: int = 0
    size_bytes: int = 0
    data_type: TensorDataType | None = None


@dataclass(frozen=True)
class Problem:
    """Why a model cannot be used, as a client sees it."""

    reason: Reason
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A file or folder in a model root, as its headers describe it.

    `native_width` and `native_height` are in pixels. `default_scheduler` is the class
    name in the model's own scheduler configuration. `type` and `architecture` are None
    where the headers do not say; `metadata` is the header's own, shortened.
    `zero_terminal_snr` says that it adds noise down to none, `inpainting` that its UNet takes
    mask and picture as further channels; `lora_rank` is 0 for all but LoRAs.
    """

    model_id: str
    name: str
    type: ModelType | None
    architecture: Architecture | None
    format: ModelFormat
    place: ModelPlace
    size_bytes: int
    modified_at: datetime
    prediction_type: PredictionType | None = None
    native_width: int = 0
    native_height: int = 0
    data_type: TensorDataType | None = None
    parameter_count: int = 0
    default_scheduler: str = ""
    zero_terminal_snr: bool = False
    inpainting: bool = False
    lora_rank: int = 0
    components: tuple[Component, ...] = ()
    tags: tuple[str, ...] = ()
    trigger_words: tuple[str, ...] = ()
    description: str = ""
    license: str = ""
    is_default: bool = False
    problem: Problem | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where it lies, to be shown and compared and not to be opened."""
        return self.place.path

    @property
    def usable(self) -> bool:
        """Whether this version can use the model, by its headers."""
        return self.problem is None

    @property
    def reads_second_prompt(self) -> bool:
        """Whether it has a second text encoder, which may be given a text of its own."""
        return any(part.name == "text_encoder_2" for part in self.components)


class ModelOrder(Enum):
    """What lists are ordered by."""

    NAME = "name"
    MODIFY_TIME = "modify-time"
    SIZE = "size"
    LAST_USE = "last-use"


@dataclass(frozen=True)
class ModelFilter:
    """Which models to list; None and empty mean any.

    `goes_with` is the id of a checkpoint that they go with.
    """

    type: ModelType | None = None
    architecture: Architecture | None = None
    format: ModelFormat | None = None
    tags: tuple[str, ...] = ()
    usable_only: bool = False
    goes_with: str = ""


@dataclass(frozen=True)
class ModelMatch:
    """A model that a search found and how well it matches, from 0 to 1."""

    model: Model
    score: float


@dataclass(frozen=True)
class FittingModels:
    """Ids of usable models that go with a model, by what they would be to it; the newest ones
    of very many."""

    vaes: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    control_nets: tuple[str, ...] = ()
    refiners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """What looking through the roots found.

    `problems` says what was left out and why, without paths, one sentence each.
    """

    models: tuple[Model, ...]
    problems: tuple[str, ...] = ()


class ValidationDepth(Enum):
    """How closely a model is looked at."""

    HEADER = "header"
    FULL = "full"
    DEEP = "deep"


@dataclass(frozen=True)
class ValidationRequest:
    """Check a model; `device_id` empty leaves out whether it fits there.

    `digest` stands for the whole request.
    """

    model_id: str
    depth: ValidationDepth
    device_id: str
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class ConversionRequest:
    """Write a model anew as `target_model_id`; without a data type numbers keep theirs.

    `digest` stands for the whole request.
    """

    model_id: str
    target_model_id: str
    data_type: TensorDataType | None
    format: ModelFormat
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class LoadRequest:
    """Put a model on a device; an empty id means the default model.

    `digest` stands for the whole request; `unbuilt` names the fields that are set although
    this version does nothing with them.
    """

    model_id: str
    placement: Placement
    options: WorkOptions
    digest: bytes
    unbuilt: tuple[str, ...] = ()


class ModelOnDevice(Value, frozen=True):
    """A model's components on a device, and where they were before; `load_time` is None
    where they lay there already."""

    model_id: ModelId
    device_id: Name
    components: Components
    origin: ModelOrigin
    load_time: Moment | None = None
