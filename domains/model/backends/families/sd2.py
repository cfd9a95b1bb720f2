"""Stable Diffusion 2.x: SD 1.x with the text encoder of OpenCLIP, without its last layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.family import Family
from domains.model.backends.families.sd1 import PIPELINES, incompatible, mend_scheduler
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE
from domains.model.types import Architecture, ModelType

TEXT_WIDTH = 1024
_NAMES = re.compile("StableDiffusion(?!XL|3)")


def _recognise_folder(index: Mapping[str, Any], unet: Mapping[str, Any]) -> ModelType | None:
    """SD 1.x has the same classes and text of another width."""
    name = index.get("_class_name")
    if not isinstance(name, str) or not _NAMES.match(name):
        return None
    return ModelType.CHECKPOINT if unet.get("cross_attention_dim") == TEXT_WIDTH else None


FAMILY = Family(
    Architecture.SD2,
    "SD 2.x",
    _recognise_folder,
    marks={ModelType.CHECKPOINT: re.compile(r"^cond_stage_model\.model\.")},
    attention_widths=frozenset({TEXT_WIDTH}),
    embedding_width=TEXT_WIDTH,
    standard_names=frozenset({"stable-diffusion-v2-512", "stable-diffusion-v2-768-v"}),
    pipelines=PIPELINES,
    libraries=frozenset({"stable_diffusion"}),
    networks={
        "text_encoder": CLIP_TEXT,
        "unet": replace(UNET, defaults={"sample_size": 96}),
        "vae": VAE,
    },
    tokenizers={"tokenizer": "text_encoder"},
    incompatible=incompatible("SD 2.x"),
    mend_scheduler=mend_scheduler,
)
