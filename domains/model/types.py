"""Model values: what a model is, without opening it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path


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
    """What the UNet predicts."""

    EPSILON = "epsilon"
    V_PREDICTION = "v_prediction"
    SAMPLE = "sample"


class DataType(Enum):
    """Element type of tensors."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT64 = "float64"
    FLOAT8_E4M3 = "float8_e4m3"
    FLOAT8_E5M2 = "float8_e5m2"
    INT8 = "int8"
    UINT8 = "uint8"


@dataclass(frozen=True)
class Component:
    """One network or tokenizer of a model.

    `name` is the folder's name (`unet`, `vae`, `text_encoder`), `class_name` the class
    that the model's index gives it. `parameter_count` and `size_bytes` are zero for
    parts without weights.
    """

    name: str
    class_name: str
    parameter_count: int = 0
    size_bytes: int = 0
    data_type: DataType | None = None


@dataclass(frozen=True)
class Model:
    """A file or folder in a model root, as its headers describe it.

    `native_width` and `native_height` are in pixels. `default_scheduler` is the
    class name in the model's own scheduler configuration.
    """

    model_id: str
    name: str
    type: ModelType
    architecture: Architecture
    format: ModelFormat
    path: Path
    size_bytes: int
    modified_at: datetime
    prediction_type: PredictionType | None = None
    native_width: int = 0
    native_height: int = 0
    data_type: DataType | None = None
    parameter_count: int = 0
    default_scheduler: str = ""
    components: tuple[Component, ...] = ()
    tags: tuple[str, ...] = ()
    description: str = ""
    license: str = ""
    is_default: bool = False
    unusable_reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
