"""Stable Diffusion 1.x: one text encoder and no other input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from domains.model.backends.bounds import Config
from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.family import Family
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE
from domains.model.types import Architecture, ModelType

_TEXT_WIDTH = 768
_SD2_TEXT_WIDTH = 1024
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


def _incompatible(configs: Mapping[str, Config]) -> str:
    unet, vae, text = configs["unet"], configs["vae"], configs["text_encoder"]
    if unet.get("cross_attention_dim") == _SD2_TEXT_WIDTH:
        return "its UNet is one of SD 2.x"
    if unet.get("cross_attention_dim") != text["hidden_size"]:
        return "its UNet and text encoder are of different widths"
    if any(unet.get(key) is not None for key in _FOREIGN_INPUTS):
        return "its UNet needs inputs that SD 1.x does not have"
    if text.get("use_attention_mask"):
        return "its text encoder needs a mask, which SD 1.x does not have"
    if (
        vae["latent_channels"] != unet["in_channels"]
        or unet["in_channels"] != (unet["out_channels"])
    ):
        return "its UNet and VAE disagree about the latents"
    if vae.get("latents_mean") is not None or vae.get("latents_std") is not None:
        return "its VAE shifts latents, which SD 1.x does not"
    return ""


def _mend_scheduler(config: Config) -> Config:
    """As `StableDiffusionPipeline` mends configurations older than these two settings."""
    own, mended = config.get("_class_name"), dict(config)
    if config.get("steps_offset", int(own in _WITHOUT_OFFSET)) != 1:
        mended["steps_offset"] = 1
    if config.get("clip_sample", own in _CLIPPING) is True:
        mended["clip_sample"] = False
    return mended


FAMILY = Family(
    Architecture.SD1,
    "SD 1.x",
    _recognise_folder,
    marks={ModelType.CHECKPOINT: re.compile(r"^cond_stage_model\.transformer\.")},
    attention_widths=frozenset({_TEXT_WIDTH}),
    embedding_width=_TEXT_WIDTH,
    standard_names=frozenset({"stable-diffusion-v1"}),
    pipelines=frozenset({"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"}),
    libraries=frozenset({"stable_diffusion"}),
    networks={
        "text_encoder": CLIP_TEXT,
        "unet": replace(UNET, defaults={"sample_size": 64}),
        "vae": VAE,
    },
    tokenizers={"tokenizer": "text_encoder"},
    incompatible=_incompatible,
    mend_scheduler=_mend_scheduler,
)
