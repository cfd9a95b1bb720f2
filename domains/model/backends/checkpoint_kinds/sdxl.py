"""Single-file checkpoints of SDXL, as the folders of its models describe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from domains.model.backends.bounds import Config
from domains.model.backends.checkpoint_kinds.kind import (
    CLIP_L,
    OPEN_CLIP,
    SCHEDULE,
    CheckpointKind,
    Padded,
    Part,
    as_in_folders,
    unet_part,
    vae_part,
)
from domains.model.backends.families.clip import CLIP_TEXT, CLIP_TEXT_PROJECTION
from domains.model.backends.families.sdxl import (
    FAMILY,
    REFINER_TIME_IDS,
    TIME_IDS,
    incompatible_refiner,
)
from domains.model.backends.layouts.open_clip import original_open_clip
from domains.model.types import Architecture, ModelType

_EULER = {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
    **SCHEDULE,
}
_NAMED_WITHOUT = ("feature_extractor", "image_encoder", "text_encoder", "tokenizer")
_UNET = unet_part({"sample_size": 128})
_VAE = vae_part(FAMILY.vae_scale)


def _sized(time_ids: int) -> Callable[[Mapping[str, Config]], None]:
    """The width that each number about sizes gets: what the pooled text leaves of the input."""

    def settle(configs: Mapping[str, Config]) -> None:
        unet, pooled = configs["unet"], configs["text_encoder_2"].get("projection_dim", 0)
        width = unet.get("projection_class_embeddings_input_dim", 0) - pooled
        if width > 0 and width % time_ids == 0:
            unet["addition_time_embed_dim"] = width // time_ids

    return settle


_BASE = CheckpointKind(
    ModelType.CHECKPOINT,
    Architecture.SDXL,
    "SDXL",
    {
        "text_encoder": Part(
            "conditioner.embedders.0.transformer.", CLIP_TEXT, as_in_folders, CLIP_L
        ),
        "text_encoder_2": Part(
            "conditioner.embedders.1.model.",
            CLIP_TEXT_PROJECTION,
            original_open_clip,
            OPEN_CLIP,
        ),
        "unet": _UNET,
        "vae": _VAE,
    },
    {"tokenizer": Padded("text_encoder"), "tokenizer_2": Padded("text_encoder_2", "!")},
    {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True},
    "stable-diffusion-xl-v1-base",
    _EULER,
    FAMILY.incompatible,
    settle=_sized(TIME_IDS),
    named_without=_NAMED_WITHOUT,
)
_REFINER = CheckpointKind(
    ModelType.REFINER,
    Architecture.SDXL,
    "SDXL refiner",
    {
        "text_encoder_2": Part(
            "conditioner.embedders.0.model.",
            CLIP_TEXT_PROJECTION,
            original_open_clip,
            OPEN_CLIP,
        ),
        "unet": _UNET,
        "vae": _VAE,
    },
    {"tokenizer_2": Padded("text_encoder_2", "!")},
    {
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "force_zeros_for_empty_prompt": False,
        "requires_aesthetics_score": True,
    },
    "stable-diffusion-xl-v1-refiner",
    _EULER,
    incompatible_refiner,
    settle=_sized(REFINER_TIME_IDS),
    named_without=_NAMED_WITHOUT,
)
KINDS = (_BASE, _REFINER)
