"""What is asked of the catalogue and of work on its models, what is found, what changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from domains.device.types import Placement
from domains.model.types import (
    Architecture,
    Model,
    ModelFormat,
    ModelNotes,
    ModelType,
)
from domains.session.types import WorkOptions
from domains.values import ByteFigure, EvictionCause, PartDataType, TensorDataType


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
    image_prompt_adapters: tuple[str, ...] = ()
    refiners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """What looking through the roots found.

    `problems` says what was left out and why, without paths, one sentence each. `folders` are
    those that were looked into, by the root they lie in. `unsettled` says that something was
    being written, on which nothing was said yet; `late` that a root was being looked through
    already, so that what is there by now may be missing.
    """

    models: tuple[Model, ...]
    problems: tuple[str, ...] = ()
    folders: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    unsettled: bool = False
    late: bool = False


@dataclass(frozen=True)
class UpdateRequest:
    """Say this of a model, as far as `fields` name it; what is empty is as the model's own
    files say again."""

    model_id: str
    notes: ModelNotes
    fields: tuple[str, ...]


@dataclass(frozen=True)
class RefreshRequest:
    """Look through the roots, with `full` read headers of unchanged files too; `digest`
    stands for the whole request."""

    full: bool
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class RefreshReport:
    """What a refresh changed: ids of models, and what was left out and why."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    total_count: int
    problems: tuple[str, ...]


class ModelEventKind(Enum):
    """What happened to a model."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    CACHED = "cached"
    EVICTED = "evicted"
    LOADED = "loaded"
    UNLOADED = "unloaded"


@dataclass(frozen=True)
class ModelEvent:
    """Something happened to a model, which is as it is now; `device_id` for LOADED and
    UNLOADED, `cause` for EVICTED and UNLOADED."""

    kind: ModelEventKind
    model: Model
    device_id: str = ""
    cause: EvictionCause | None = None


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
class OptimizationRequest:
    """Write a smaller copy as `target_model_id`; `vae_data_type` is that of the VAE alone.

    `placement` says where both are measured, None leaves that out. `digest` stands for the
    whole request.
    """

    model_id: str
    target_model_id: str
    data_type: TensorDataType
    vae_data_type: TensorDataType | None
    prune: bool
    placement: Placement | None
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class BenchmarkRequest:
    """Measure a model on a device; sizes are in pixels, None means native.

    `digest` stands for the whole request.
    """

    model_id: str
    placement: Placement
    width: int | None
    height: int | None
    steps: int
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class ModelBenchmark:
    """Figures of a model on a device; times are seconds, one for each time.

    `switch` is empty where main memory did not have the whole model.
    """

    model_id: str
    device_id: str
    load: tuple[float, ...]
    switch: tuple[float, ...]
    encode: tuple[float, ...]
    step: tuple[float, ...]
    decode: tuple[float, ...]
    peak_memory: ByteFigure
    data_types: tuple[PartDataType, ...]
    channels_last: bool


@dataclass(frozen=True)
class ModelOptimization:
    """A smaller copy, and sizes on disk in bytes before and after.

    Where they were measured: figures of the model and of the copy, and how like the pictures
    of the two are, in decibels.
    """

    model: Model
    size_before_bytes: int
    size_after_bytes: int
    tensors_pruned: int
    before: ModelBenchmark | None = None
    after: ModelBenchmark | None = None
    similarity_db: float = 0.0
