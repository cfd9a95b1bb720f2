"""Flux.1, a transformer. Recognised, so that it is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.model.backends.families.family import Family
from domains.model.types import Architecture, ModelType


def _recognise_folder(index: Mapping[str, Any], _unet: Mapping[str, Any]) -> ModelType | None:
    name = index.get("_class_name")
    known = isinstance(name, str) and name.startswith("Flux") and name[4:5] not in "23"
    return ModelType.CHECKPOINT if known else None


FAMILY = Family(
    Architecture.FLUX,
    "Flux",
    _recognise_folder,
    trainer_names=("flux",),
    standard_names=frozenset({"flux-1-dev", "flux-1-schnell", "flux.1-dev", "flux.1-schnell"}),
)
