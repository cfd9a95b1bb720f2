"""What clients ask to be done with models, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from domains.device.types import Placement
from domains.model.types import Model, ModelFormat
from domains.session.types import WorkOptions
from domains.values import ByteFigure, PartDataType, TensorDataType


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
class UnloadReport:
    """Devices that a model left, and how much memory that freed; `cached` says whether it is in
    main memory now."""

    device_ids: tuple[str, ...]
    freed: ByteFigure
    cached: bool


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
class OptimizationRequest:
    """Write a smaller copy as `target_model_id`; `vae_data_type` is that of the VAE alone.

    `measured` asks for figures of both. `digest` stands for the whole request.
    """

    model_id: str
    target_model_id: str
    data_type: TensorDataType
    vae_data_type: TensorDataType | None
    prune: bool
    measured: bool
    options: WorkOptions
    digest: bytes


@dataclass(frozen=True)
class ModelOptimization:
    """A smaller copy, and sizes on disk in bytes before and after."""

    model: Model
    size_before_bytes: int
    size_after_bytes: int
    tensors_pruned: int
