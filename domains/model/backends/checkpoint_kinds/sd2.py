"""Single-file checkpoints of SD 2.x, as the folders of its models describe them."""

from __future__ import annotations

from collections.abc import Iterable

from domains.model.backends.checkpoint_kinds.kind import (
    OPEN_CLIP,
    SCHEDULE,
    SD_NAMED_WITHOUT,
    CheckpointKind,
    Padded,
    Part,
    unet_part,
    vae_part,
)
from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.sd2 import FAMILY
from domains.model.backends.layouts.open_clip import (
    original_open_clip,
    with_last_layer,
    without_last_layer,
)
from domains.model.types import Architecture, ModelType, PredictionType


def _openclip_h(folder: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return with_last_layer(original_open_clip(folder))


_KIND = CheckpointKind(
    ModelType.CHECKPOINT,
    Architecture.SD2,
    "SD 2.x",
    {
        "text_encoder": Part(
            "cond_stage_model.model.", CLIP_TEXT, _openclip_h, OPEN_CLIP, without_last_layer
        ),
        "unet": unet_part({"sample_size": 96, "upcast_attention": True}),
        "vae": vae_part(FAMILY.vae_scale),
    },
    {"tokenizer": Padded("text_encoder", "!")},
    {"_class_name": "StableDiffusionPipeline"},
    "stable-diffusion-v2-512",
    {
        "_class_name": "DDIMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        **SCHEDULE,
    },
    FAMILY.incompatible,
    named_without=SD_NAMED_WITHOUT,
    prediction=PredictionType.V_PREDICTION,
)
KINDS = (_KIND,)
