"""Stable Diffusion 2.x: SD 1.x with the text encoder of OpenCLIP. Recognised only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from domains.model.backends.families.family import Family
from domains.model.types import Architecture, ModelType

_TEXT_WIDTH = 1024
_PIPELINES = re.compile("StableDiffusion(?!XL|3)")


def _recognise_folder(index: Mapping[str, Any], unet: Mapping[str, Any]) -> ModelType | None:
    name = index.get("_class_name")
    if not isinstance(name, str) or not _PIPELINES.match(name):
        return None
    return ModelType.CHECKPOINT if unet.get("cross_attention_dim") == _TEXT_WIDTH else None


FAMILY = Family(
    Architecture.SD2,
    "SD 2.x",
    _recognise_folder,
    marks={ModelType.CHECKPOINT: re.compile(r"^cond_stage_model\.model\.")},
    attention_widths=frozenset({_TEXT_WIDTH}),
    embedding_width=_TEXT_WIDTH,
    standard_names=frozenset({"stable-diffusion-v2-512", "stable-diffusion-v2-768-v"}),
)
