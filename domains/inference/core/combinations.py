"""What of a generation goes with what, and with which model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from domains.inference.types import GenerationSettings
from domains.model.types import Model, ModelType

NOT_SDXL = "The model is no SDXL model."
_MASKS_ONLY = (
    "The model's UNet takes a mask and a picture beside the latents: it only inpaints."
)

_REFINES = (
    "A refiner draws nothing by itself: name it in sdxl.refiner.model_id of a request for "
    "another model."
)
# What a refiner is asked for by.
_OF_REFINERS = ("sdxl", "sdxl.refiner")
# Parts of parts that need a model of their own.
_OF_PARTS = ("second_pass.postprocessor_id",)

# Each excludes the others; fields by their paths in GenerationSettings.
_ONE_OF = (
    ("image_to_image", "inpainting"),
    ("inpainting.crop_margin_pixels", "second_pass"),
    ("seed", "seeds"),
    (
        "scheduler.solver",
        "scheduler.churn",
        "scheduler.ddim",
        "scheduler.ancestral",
        "scheduler.linear_multistep",
    ),
    ("scheduler.sigmas", "scheduler.spacing"),
    ("scheduler.sigmas", "scheduler.timestep_spacing"),
)
# Fields that are a level deeper in the contract.
_DEEPER = {"precision": "precision.mode", "vae_tiling": "precision.vae_tiling"}


class Mode(Enum):
    """What a generation starts from."""

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    INPAINTING = "inpainting"


@dataclass(frozen=True)
class Feature:
    """A field of the contract by its path in GenerationSettings: why it is of no use in this
    version or with this model, empty where it can be used, and the fields that it excludes."""

    field: str
    explanation: str = ""
    excluded: tuple[str, ...] = ()


def excluded_by(field: str) -> tuple[str, ...]:
    """The fields that cannot be set beside this one."""
    groups = [group for group in _ONE_OF if field in group]
    return tuple(other for group in groups for other in group if other != field)


def modes_of(model: Model, unbuilt: Mapping[str, str]) -> tuple[Mode, ...]:
    """What generations with a model may start from.

    Args:
        model: Draws.
        unbuilt: Fields that this version does nothing with.
    """
    if model.type is ModelType.REFINER:
        return ()
    modes = [Mode.INPAINTING] if model.inpainting else list(Mode)
    return tuple(
        mode for mode in modes if mode is Mode.TEXT_TO_IMAGE or _field_of(mode) not in unbuilt
    )


def features_of(model: Model, unbuilt: Mapping[str, str]) -> tuple[Feature, ...]:
    """Every field that can be set, and those that cannot with the reason.

    Args:
        model: Draws.
        unbuilt: Fields that this version does nothing with, and why.
    """
    reasons = dict(unbuilt)
    if not model.reads_second_prompt:
        reasons |= dict.fromkeys(_OF_REFINERS, NOT_SDXL)
    if model.inpainting:
        reasons.setdefault("image_to_image", _MASKS_ONLY)
    named = [_DEEPER.get(name, name) for name in GenerationSettings.__struct_fields__]
    exclusive = [field for group in _ONE_OF for field in group]
    fields = dict.fromkeys([*named, *_OF_REFINERS, *_OF_PARTS, *exclusive, *reasons])
    if model.type is ModelType.REFINER:
        reasons = {field: _REFINES for field in fields if field not in _OF_REFINERS} | dict(
            unbuilt
        )
    return tuple(Feature(field, reasons.get(field, ""), excluded_by(field)) for field in fields)


def _field_of(mode: Mode) -> str:
    return mode.name.lower()
