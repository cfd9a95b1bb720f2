"""Stable Diffusion 1.x: one text encoder and no other input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from domains.model.backends.families.family import Family
from domains.model.types import Architecture, ModelType

_TEXT_WIDTH = 768
_PIPELINES = re.compile("StableDiffusion(?!XL)")


def _recognise_folder(index: Mapping[str, Any], unet: Mapping[str, Any]) -> ModelType | None:
    """SD 2.x has the same classes, and text of a width that SD 1.x does not have."""
    name = index.get("_class_name")
    if not isinstance(name, str) or not _PIPELINES.match(name):
        return None
    return ModelType.CHECKPOINT if unet.get("cross_attention_dim") == _TEXT_WIDTH else None


FAMILY = Family(
    Architecture.SD1,
    "SD 1.x",
    _recognise_folder,
    marks={ModelType.CHECKPOINT: re.compile(r"^cond_stage_model\.transformer\.")},
    attention_widths=frozenset({_TEXT_WIDTH}),
    embedding_width=_TEXT_WIDTH,
    standard_names=frozenset({"stable-diffusion-v1"}),
)
