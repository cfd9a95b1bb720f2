"""Stable Diffusion 1.x: one text encoder and no other input."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from domains.model.backends.bounds import Config
from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.family import Family, UnetFacts
from domains.model.backends.families.unet import UNET, fits_latents
from domains.model.backends.families.vae import VAE
from domains.model.backends.recognised import Recognised
from domains.model.types import Architecture, ModelType, PredictionType

_TEXT_WIDTH = 768
_PIPELINES = re.compile("StableDiffusion(?!XL|3)")
# UNet inputs of other models; a UNet that needs one would fail or draw nonsense here.
_FOREIGN_INPUTS = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
)
# What schedulers do by themselves where a configuration does not say.
_WITHOUT_OFFSET = frozenset({"DPMSolverSinglestepScheduler"})
_CLIPPING = frozenset({"DDIMScheduler", "DDPMScheduler"})


def _recognise_folder(index: Mapping[str, Any], unet: Mapping[str, Any]) -> ModelType | None:
    """SD 2.x has the same classes, and text of a width that SD 1.x does not have."""
    name = index.get("_class_name")
    if not isinstance(name, str) or not _PIPELINES.match(name):
        return None
    return ModelType.CHECKPOINT if unet.get("cross_attention_dim") == _TEXT_WIDTH else None


def incompatible(title: str) -> Callable[[Mapping[str, Config]], str]:
    """Why parts make no model of SD 1.x, or of a family that is built like it; see `Family`."""

    def why(configs: Mapping[str, Config]) -> str:
        unet, vae, text = configs["unet"], configs["vae"], configs["text_encoder"]
        if unet.get("cross_attention_dim") != text["hidden_size"]:
            return "its UNet and text encoder are of different widths"
        if any(unet.get(key) is not None for key in _FOREIGN_INPUTS):
            return f"its UNet needs inputs that {title} does not have"
        if text.get("use_attention_mask"):
            return f"its text encoder needs a mask, which {title} does not have"
        if not fits_latents(unet, vae["latent_channels"]):
            return "its UNet and VAE disagree about the latents"
        if vae.get("latents_mean") is not None or vae.get("latents_std") is not None:
            return f"its VAE shifts latents, which {title} does not"
        return ""

    return why


def mend_scheduler(config: Config) -> Config:
    """As `StableDiffusionPipeline` mends configurations older than these two settings."""
    own, mended = config.get("_class_name"), dict(config)
    if config.get("steps_offset", int(own in _WITHOUT_OFFSET)) != 1:
        mended["steps_offset"] = 1
    if config.get("clip_sample", own in _CLIPPING) is True:
        mended["clip_sample"] = False
    return mended


def _describe_unet(found: Recognised, _facts: UnetFacts) -> Recognised:
    return replace(found, prediction=PredictionType.EPSILON, native_size=512)


PIPELINES = frozenset(
    {
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        # They add parts to those that text needs, or ask for other inputs beside it.
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionPAGInpaintPipeline",
        "StableDiffusionPAGImg2ImgPipeline",
        "StableDiffusionPAGPipeline",
    }
)
"""Classes of the index, of this family and of those that are built like it."""

FAMILY = Family(
    Architecture.SD1,
    "SD 1.x",
    _recognise_folder,
    marks={ModelType.CHECKPOINT: re.compile(r"^cond_stage_model\.transformer\.")},
    attention_widths=frozenset({_TEXT_WIDTH}),
    describe_unet=_describe_unet,
    prediction=PredictionType.EPSILON,
    embedding_width=_TEXT_WIDTH,
    lora_text_width=_TEXT_WIDTH,
    standard_names=frozenset({"stable-diffusion-v1"}),
    trainer_names=("sd_v1", "sd_1"),
    pipelines=PIPELINES,
    libraries=frozenset({"stable_diffusion"}),
    networks={
        "text_encoder": CLIP_TEXT,
        "unet": replace(UNET, defaults={"sample_size": 64}),
        "vae": VAE,
    },
    tokenizers={"tokenizer": "text_encoder"},
    incompatible=incompatible("SD 1.x"),
    mend_scheduler=mend_scheduler,
)
