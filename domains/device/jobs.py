"""What a device's worker can be asked to do beside drawing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from domains.codec import (
    FEW,
    Measure,
    ModelId,
    Moment,
    Seconds,
    Text,
    Texts,
    Value,
)
from domains.device.types import Components, OptimizationProfile
from domains.session.jobs import Job, ModelFiles
from domains.values import ByteFigure, CachedModel, ModelPart, ModelPlace, TensorDataType


class AttentionBackend(Enum):
    """An implementation of attention."""

    MATH = "math"
    FLASH = "flash"
    EFFICIENT = "efficient"
    CUDNN = "cudnn"


class DataTypeFacts(Value, frozen=True):
    """How a device computes in one data type.

    `max_relative_error` is the greatest of ||out - reference|| / ||reference|| over the
    operations tried, the reference being float64 on the processor; `matmul_tflops` is in
    10^12 operations per second, 0 where the type does not work.
    """

    data_type: TensorDataType
    works: bool
    max_relative_error: Annotated[float, Meta(ge=0.0)]
    matmul_tflops: Measure


class SelfTestFacts(Value, frozen=True):
    """What a device can do, as measured in its worker; speeds in 10^9 bytes per second."""

    data_types: Annotated[tuple[DataTypeFacts, ...], FEW]
    largest_allocation: ByteFigure
    attention_backends: Annotated[tuple[AttentionBackend, ...], FEW]
    has_float64: bool
    host_to_device_gbps: Measure
    device_to_host_gbps: Measure
    has_pinned_memory: bool
    has_compilation: bool
    measure_time: Moment
    software_versions: Texts = msgspec.field(default_factory=dict)
    problems: Annotated[tuple[Text, ...], FEW] = ()


class SelfTestJob(Job[SelfTestFacts], frozen=True):
    """Measure what the device can do."""


@dataclass(frozen=True)
class Capabilities:
    """What a device can do, as its self-test found."""

    device_id: str
    facts: SelfTestFacts


class OptimizationSetting(Enum):
    """What a profile sets."""

    DATA_TYPE = "data-type"
    CHANNELS_LAST = "channels-last"
    ATTENTION_SLICING = "attention-slicing"
    VAE_TILING = "vae-tiling"
    COMPILATION = "compilation"
    PRECISION = "precision"


class OptimizationChange(Value, frozen=True):
    """One thing that a profile set otherwise than it was; `part` None is about all.

    `before` and `after` are for people ("float16", "off").
    """

    setting: OptimizationSetting
    part: ModelPart | None
    before: Text
    after: Text


class OptimizationReport(Value, frozen=True):
    """A profile's effect; `step_before` and `step_after` are seconds of one step."""

    profile: OptimizationProfile
    changes: Annotated[tuple[OptimizationChange, ...], FEW]
    step_before: Seconds
    step_after: Seconds
    peak_memory_before: ByteFigure
    peak_memory_after: ByteFigure


class OptimizationJob(Job[OptimizationReport], frozen=True):
    """Apply a profile and measure its effect on a real step of that model.

    Without a model the profile is applied and nothing is measured, as after the
    start of a new worker: the report's times are 0 and its figures unknown.
    """

    profile: OptimizationProfile
    model_id: Annotated[str, Meta(max_length=256)] = ""
    place: ModelPlace | None = None
    cached: CachedModel | None = None
    """What main memory has of the model."""

    @property
    def image_count(self) -> int:
        """One: the picture that it measures with."""
        return 1

    @property
    def model(self) -> ModelFiles | None:
        """What is measured, if anything is."""
        return ModelFiles(self.model_id, self.place.path) if self.place else None


class ReleaseReport(Value, frozen=True):
    """What was let go, in that order, and what was loaded again.

    Free memory before and after is in the worker's figures: a fresh reading precedes
    every report.
    """

    released: Components
    reloaded: Components = ()


class ReleaseJob(Job[ReleaseReport], frozen=True):
    """Let loaded models go; no ids means every one. With `reload`, load them again."""

    model_ids: Annotated[tuple[ModelId, ...], Meta(max_length=1_000)] = ()
    reload: bool = False
