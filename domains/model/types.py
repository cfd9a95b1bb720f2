"""Model values: what a model is, without opening it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta

from domains.codec import Value
from domains.device.types import Components, Placement
from domains.errors import Reason
from domains.memory.types import HeldComponent
from domains.session.types import WorkOptions
from domains.values import (
    ByteFigure,
    ModelOrigin,
    ModelPlace,
    PartDataType,
    TensorDataType,
)


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
    FACE_RESTORER = "face-restorer"
    IMAGE_ENCODER = "image-encoder"
    IMAGE_PROMPT_ADAPTER = "image-prompt-adapter"
    CONTROL_PREPROCESSOR = "control-preprocessor"


WHOLE_MODELS = frozenset({ModelType.CHECKPOINT, ModelType.REFINER})
"""Types of models that have a denoiser and what goes with it."""
_ENCODERS = frozenset({ModelType.VAE, ModelType.TEXT_ENCODER, ModelType.IMAGE_ENCODER})
LONE_NETWORKS = _ENCODERS | {ModelType.CONTROL_NET, ModelType.IMAGE_PROMPT_ADAPTER}
"""Types of models that are one network, which work with a checkpoint uses."""


def loads(type: ModelType | None) -> bool:
    """Whether models of a type are put on devices."""
    return type in WHOLE_MODELS or type in LONE_NETWORKS


class ModelFormat(Enum):
    """How a model lies on disk."""

    DIFFUSERS_FOLDER = "diffusers-folder"
    SAFETENSORS = "safetensors"
    PICKLE = "pickle"
    ONNX = "onnx"
    GGUF = "gguf"


class Architecture(Enum):
    """The family of networks a model belongs to."""

    SDXL = "sdxl"
    SD1 = "sd1"
    SD2 = "sd2"
    SD3 = "sd3"
    FLUX = "flux"


class PredictionType(Enum):
    """What the denoiser predicts."""

    EPSILON = "epsilon"
    V_PREDICTION = "v_prediction"
    SAMPLE = "sample"
    FLOW = "flow"


@dataclass(frozen=True)
class Component:
    """One network or tokenizer of a model.

    `name` is the folder's name (`unet`, `vae`, `text_encoder`), `class_name` the class
    that the model's index gives it. `parameter_count` and `size_bytes` are zero for
    parts without weights and where the model's problem kept them from being read. `widths` are
    channels of its blocks, those at full size first; none for parts that have no such blocks.
    `attends_at_full_size` says that the first of them has attention, `full_precision` that it
    is computed in float32 where others are in half of that. `layers` are those of a text
    encoder.
    """

    name: str
    class_name: str
    parameter_count: int = 0
    size_bytes: int = 0
    data_type: TensorDataType | None = None
    widths: tuple[int, ...] = ()
    attends_at_full_size: bool = False
    full_precision: bool = False
    layers: int = 0


@dataclass(frozen=True)
class Problem:
    """Why a model cannot be used, as a client sees it."""

    reason: Reason
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class FileState(NamedTuple):
    """A file with weights as it was found: its path below the model's place with slashes, ""
    for a model of one file, its size, and when it was last changed, since 1970."""

    name: str
    size_bytes: int
    modified_ns: int


def weights_sha256(hashes: Mapping[str, str]) -> str:
    """A model's hash from those of its weight files, by their names as in `FileState`.

    That of the file for a model of one file. For a folder that of the list which
    `LC_ALL=C sha256sum` prints for them in order of path: 64 digits, two spaces, the path in
    the folder, a line break. Empty where there are none.
    """
    if set(hashes) <= {""}:
        return hashes.get("", "")
    lines = (
        f"{sha256}  {name}\n".encode(errors="surrogateescape")
        for name, sha256 in sorted(hashes.items(), key=lambda pair: os.fsencode(pair[0]))
    )
    return hashlib.sha256(b"".join(lines)).hexdigest()


_Name = Annotated[str, Meta(max_length=256)]
_Description = Annotated[str, Meta(max_length=1024)]
_Words = Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=64)]


class ModelNotes(Value, frozen=True):
    """What clients say of a model, in place of what its own files say; empty where they say
    nothing."""

    name: _Name = ""
    description: _Description = ""
    tags: _Words = ()
    trigger_words: _Words = ()


@dataclass(frozen=True)
class Enlargement:
    """What an upscaler does to pictures.

    Attributes:
        factor: Enlargement of an edge in one pass.
        numbers_per_pixel: How many numbers it keeps at once for a pixel that it takes.
    """

    factor: int
    numbers_per_pixel: int


@dataclass(frozen=True)
class Model:
    """A file or folder in a model root, as its headers describe it.

    `native_width` and `native_height` are in pixels. `default_scheduler` is the class
    name in the model's own scheduler configuration. `type` and `architecture` are None
    where the headers do not say; `metadata` is the header's own, shortened.
    `scheduler_config` is that configuration without its lists.
    `zero_terminal_snr` says that it adds noise down to none, `inpainting` that its UNet takes
    mask and picture as further channels, `borrows` that it is a refiner that takes networks of
    the checkpoint it is used with, `lacks_vae` that it is a checkpoint to which requests have
    to lend a VAE; `lora_rank` and `lora_alpha` are 0 for all but LoRAs,
    the alpha also where its layers have several. `kind` is what people call its kind
    ("LoKr"), `remarks` what to know before it is used, a sentence each; `enlargement` is None
    for all but upscalers of a kind that is built in. `weights` are in order of path; `sha256`
    is over them, empty while it is not known.
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
    scheduler_config: Mapping[str, str | float | None] = field(default_factory=dict)
    zero_terminal_snr: bool = False
    inpainting: bool = False
    borrows: bool = False
    lacks_vae: bool = False
    distilled_steps: int = 0
    lora_rank: int = 0
    lora_alpha: float = 0.0
    kind: str = ""
    remarks: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    tags: tuple[str, ...] = ()
    trigger_words: tuple[str, ...] = ()
    description: str = ""
    license: str = ""
    is_default: bool = False
    problem: Problem | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[FileState, ...] = ()
    sha256: str = ""
    aliases: tuple[str, ...] = ()
    read_only: bool = False
    entry: ModelPlace | None = None
    enlargement: Enlargement | None = None

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


@dataclass(frozen=True)
class ImportedFile:
    """A file of a model that comes in: where in the model, with slashes, and which artifact."""

    relative_path: str
    artifact_id: str


@dataclass(frozen=True)
class ImportRequest:
    """Put artifacts into the catalogue as a model; a format of None was not named.

    `digest` stands for the whole request.
    """

    model_id: str
    format: ModelFormat | None
    files: tuple[ImportedFile, ...]
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class LoadRequest:
    """Put a model on a device; an empty id means the default model.

    `data_types` are those of parts for which the client chose one. A `dry_run` only says what
    would be. `digest` stands for the whole request.
    """

    model_id: str
    placement: Placement
    options: WorkOptions
    digest: bytes
    data_types: tuple[PartDataType, ...] = ()
    warm_up: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class CachedModelInfo:
    """A model in main memory, as clients see it."""

    model_id: str
    size_bytes: int
    last_use_time: datetime
    pinned: bool
    hit_count: int
    in_use: bool = False


@dataclass(frozen=True)
class CacheStatus:
    """What the cache holds, next to be evicted last, and how well it works.

    `remark` says why workers do not read its memory itself, or cannot fetch from it at full
    speed.
    """

    entries: tuple[CachedModelInfo, ...]
    used_bytes: int
    budget_bytes: int
    hit_count: int
    miss_count: int
    eviction_count: int
    shared: bool
    page_locked: bool
    remark: str


@dataclass(frozen=True)
class CacheRequest:
    """Read a model into main memory; `digest` stands for the whole request."""

    model_id: str
    pinned: bool
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class UnloadRequest:
    """Take a model off devices, all of them where none is named.

    `digest` stands for the whole request.
    """

    model_id: str
    device_ids: tuple[str, ...]
    keep_cached: bool
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class ModelEstimate:
    """What a model needs on a device; seconds are None while nothing comparable was measured.

    `weights` and `peak` are memory of the device; `fits` counts what can be evicted as free.
    """

    device_id: str
    weights: ByteFigure
    peak: ByteFigure
    fits: bool
    step_seconds: float | None = None
    load_seconds: float | None = None


@dataclass(frozen=True)
class ModelOnDevice:
    """A model's components on a device, and where they were before.

    `load_time` is None where this load found them there. `session_ids` are those that use it
    now; `evicted_model_ids` left the device for it, or would. A dry run has no components,
    and its `estimate` is what it found.
    """

    model_id: str
    device_id: str
    components: Components
    origin: ModelOrigin | None
    load_time: datetime | None = None
    session_ids: tuple[str, ...] = ()
    evicted_model_ids: tuple[str, ...] = ()
    estimate: ModelEstimate | None = None


@dataclass(frozen=True)
class UnloadReport:
    """Devices that a model left, and how much memory that freed; `cached` says whether it is in
    main memory now."""

    device_ids: tuple[str, ...]
    freed: ByteFigure
    cached: bool


@dataclass(frozen=True)
class ModelStatus:
    """A model everywhere, at one moment."""

    model: Model
    cached: CachedModelInfo | None
    loaded: tuple[ModelOnDevice, ...]
    components: tuple[HeldComponent, ...]
    estimates: tuple[ModelEstimate, ...]
