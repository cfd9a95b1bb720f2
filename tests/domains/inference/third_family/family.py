"""Tiny: one narrow text encoder, of which the layer before the last is read; velocity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.family import Family
from domains.model.backends.families.sd1 import incompatible
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE
from domains.model.types import Architecture, ModelType, PredictionType

PIPELINE = "TinyDiffusionPipeline"
TEXT_WIDTH = 96


def _recognise_folder(index: Mapping[str, Any], _unet: Mapping[str, Any]) -> ModelType | None:
    return ModelType.CHECKPOINT if index.get("_class_name") == PIPELINE else None


FAMILY = Family(
    Architecture("tiny"),
    "Tiny",
    _recognise_folder,
    marks={ModelType.CHECKPOINT: re.compile(r"^text_encoders\.tiny\.")},
    attention_widths=frozenset({TEXT_WIDTH}),
    prediction=PredictionType.V_PREDICTION,
    pipelines=frozenset({PIPELINE}),
    networks={
        "text_encoder": CLIP_TEXT,
        "unet": replace(UNET, defaults={"sample_size": 32}),
        "vae": VAE,
    },
    tokenizers={"tokenizer": "text_encoder"},
    incompatible=incompatible("Tiny"),
)
