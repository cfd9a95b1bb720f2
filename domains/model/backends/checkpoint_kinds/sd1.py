"""Single-file checkpoints of SD 1.x, as the folders of its models describe them."""

from __future__ import annotations

from domains.model.backends.checkpoint_kinds.kind import (
    CLIP_L,
    SCHEDULE,
    SD_NAMED_WITHOUT,
    CheckpointKind,
    Padded,
    Part,
    as_in_folders,
    unet_part,
    vae_part,
)
from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.sd1 import FAMILY
from domains.model.types import Architecture, ModelType

_KIND = CheckpointKind(
    ModelType.CHECKPOINT,
    Architecture.SD1,
    "SD 1.x",
    {
        "text_encoder": Part("cond_stage_model.transformer.", CLIP_TEXT, as_in_folders, CLIP_L),
        "unet": unet_part({"sample_size": 64}),
        "vae": vae_part(FAMILY.vae_scale),
    },
    {"tokenizer": Padded("text_encoder")},
    {"_class_name": "StableDiffusionPipeline"},
    "stable-diffusion-v1",
    {
        "_class_name": "PNDMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        **SCHEDULE,
    },
    FAMILY.incompatible,
    named_without=SD_NAMED_WITHOUT,
)
KINDS = (_KIND,)
