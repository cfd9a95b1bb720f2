"""Stable Diffusion 3.x, a transformer. Recognised, so that it is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.model.backends.families.family import Family
from domains.model.types import Architecture, ModelType


def _recognise_folder(index: Mapping[str, Any], _unet: Mapping[str, Any]) -> ModelType | None:
    name = index.get("_class_name")
    known = isinstance(name, str) and name.startswith("StableDiffusion3")
    return ModelType.CHECKPOINT if known else None


FAMILY = Family(
    Architecture.SD3,
    "SD 3.x",
    _recognise_folder,
    trainer_names=("sd3",),
    standard_names=frozenset(
        {
            "stable-diffusion-3-medium",
            "stable-diffusion-3.5-medium",
            "stable-diffusion-3.5-large",
            "stable-diffusion-v3-medium",
        }
    ),
)
