"""Stable Diffusion 2.x: SD 1.x with the text encoder of OpenCLIP, without its last layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.family import Family, UnetFacts
from domains.model.backends.families.sd1 import PIPELINES, incompatible, mend_scheduler
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE
from domains.model.backends.recognised import Recognised
from domains.model.types import Architecture, ModelType, PredictionType

TEXT_WIDTH = 1024
_NAMES = re.compile("StableDiffusion(?!XL|3)")


def _recognise_folder(index: Mapping[str, Any], unet: Mapping[str, Any]) -> ModelType | None:
    """SD 1.x has the same classes and text of another width."""
    name = index.get("_class_name")
    if not isinstance(name, str) or not _NAMES.match(name):
        return None
    return ModelType.CHECKPOINT if unet.get("cross_attention_dim") == TEXT_WIDTH else None


# An image embedding beside the text.
_UNCLIP_VECTORS = frozenset({1536, 2048})
_INPAINTING, _DEPTH, _ENLARGER = 9, 5, 7  # channels


def _describe_unet(found: Recognised, facts: UnetFacts) -> Recognised:
    """The same tensors predict noise at 512 and velocity at 768 pixels, but for a few."""
    if facts.vector:
        return replace(
            found,
            kind="unCLIP",
            prediction=PredictionType.V_PREDICTION,
            native_size=768,
            extra_input="an image embedding",
        )
    if facts.channels == _ENLARGER or facts.labelled:
        return replace(found, prediction=PredictionType.V_PREDICTION)
    if facts.channels in (_INPAINTING, _DEPTH):
        return replace(found, prediction=PredictionType.EPSILON, native_size=512)
    return found


FAMILY = Family(
    Architecture.SD2,
    "SD 2.x",
    _recognise_folder,
    marks={ModelType.CHECKPOINT: re.compile(r"^cond_stage_model\.model\.")},
    attention_widths=frozenset({TEXT_WIDTH}),
    vector_widths=_UNCLIP_VECTORS,
    describe_unet=_describe_unet,
    native_sizes={
        PredictionType.EPSILON: 512,
        PredictionType.SAMPLE: 512,
        PredictionType.V_PREDICTION: 768,
    },
    embedding_width=TEXT_WIDTH,
    # LyCORIS's transforms of SD 1.x and 2.x have as many layers as their text encoders.
    lora_layers=re.compile(r"^(lora_te_|text_encoder\.).*layers[._](1[2-9]|2\d)[._]"),
    lora_text_width=TEXT_WIDTH,
    standard_names=frozenset({"stable-diffusion-v2-512", "stable-diffusion-v2-768-v"}),
    trainer_names=("sd_v2", "sd_2"),
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
