"""SDXL: two text encoders, a pooled vector and the picture's size as extra inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from domains.model.backends.bounds import Config
from domains.model.backends.families.clip import CLIP_TEXT, CLIP_TEXT_PROJECTION
from domains.model.backends.families.family import Family, UnetFacts, has_part
from domains.model.backends.families.unet import UNET, fits_latents
from domains.model.backends.families.vae import VAE
from domains.model.backends.recognised import Recognised
from domains.model.types import Architecture, ModelType, PredictionType

TIME_IDS = 6
"""Numbers that tell the UNet the sizes of the original and of the picture, and the crop."""
REFINER_TIME_IDS = 5
"""Those of a refiner, told how good a picture is to look and not how large it is to be."""
# UNet inputs of other models; a UNet that needs one would fail or draw nonsense here.
_FOREIGN_INPUTS = (
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
)


def _recognise_folder(index: Mapping[str, Any], _unet: Mapping[str, Any]) -> ModelType | None:
    """A refiner has the second text encoder alone, or none where it shares the base's."""
    name = index.get("_class_name")
    if not isinstance(name, str) or not name.startswith("StableDiffusionXL"):
        return None
    second = has_part(index, "text_encoder_2")
    refines = second or index.get("requires_aesthetics_score") is True
    if refines and has_part(index, "unet") and not has_part(index, "text_encoder"):
        return ModelType.REFINER
    return ModelType.CHECKPOINT if second else None


def _incompatible(configs: Mapping[str, Config]) -> str:
    width = sum(configs[name]["hidden_size"] for name in ("text_encoder", "text_encoder_2"))
    return _unfit(configs, width, TIME_IDS)


def incompatible_refiner(configs: Mapping[str, Config]) -> str:
    """Why parts make no refiner; see `Family.incompatible`. It has the second encoder alone."""
    return _unfit(configs, configs["text_encoder_2"]["hidden_size"], REFINER_TIME_IDS)


def _unfit(configs: Mapping[str, Config], width: int, time_ids: int) -> str:
    unet, pooled = configs["unet"], configs["text_encoder_2"]["projection_dim"]
    time_dim = unet.get("addition_time_embed_dim")
    if unet.get("addition_embed_type") != "text_time" or not isinstance(time_dim, int):
        return "its UNet takes no size and pooled text"
    if unet.get("projection_class_embeddings_input_dim") != time_ids * time_dim + pooled:
        return "its UNet expects another pooled text or size"
    if unet.get("cross_attention_dim") != width:
        return "its UNet and text encoders are of different widths"
    if any(unet.get(key) is not None for key in _FOREIGN_INPUTS):
        return "its UNet needs inputs that SDXL does not have"
    if not fits_latents(unet, configs["vae"]["latent_channels"]):
        return "its UNet and VAE disagree about the latents"
    return ""


# Of its further input: sizes and pooled text.
_VECTOR, _REFINER_VECTOR = 2816, 2560
_REFINER_WIDTH = 1280
_NATIVE_SIZE = 1024
# Distilled ones by depth before and in the middle: from their papers' repositories and
# `comfy/model_detection.py` of ComfyUI.
_KINDS = {
    (4, 0): "SSD-1B",
    (2, 0): "Segmind-Vega",
    (5, 0): "KOALA-700M",
    (6, 6): "KOALA-1B",
}


def _describe_unet(found: Recognised, facts: UnetFacts) -> Recognised:
    found = replace(found, prediction=PredictionType.EPSILON)
    if facts.vector == _REFINER_VECTOR:
        return replace(
            found, type=ModelType.REFINER, kind="SDXL refiner", native_size=_NATIVE_SIZE
        )
    kind = _KINDS.get((facts.depth, facts.middle), "")
    size = _NATIVE_SIZE if facts.vector == _VECTOR else 0
    return replace(found, kind=kind, native_size=size)


_BASE = Family(
    Architecture.SDXL,
    "SDXL",
    _recognise_folder,
    marks={
        ModelType.CHECKPOINT: re.compile(r"^conditioner\.embedders\.1\."),
        # Its only text encoder is the one that is the second elsewhere.
        ModelType.REFINER: re.compile(r"^conditioner\.embedders\.0\.model\."),
        ModelType.LORA: re.compile(r"lora_te2_|text_encoder_2\."),
        # Sizes and pooled text; the small ones have no cross-attention.
        ModelType.CONTROL_NET: re.compile(r"^add_embedding\.linear_1\.weight$"),
        ModelType.EMBEDDING: re.compile(r"^(clip_g|text_encoders_1)$"),
    },
    attention_widths=frozenset({2048, _REFINER_WIDTH}),
    vector_widths=frozenset({_VECTOR, _REFINER_VECTOR}),
    # Small ControlNets of it have no cross-attention that could tell.
    any_vector=True,
    describe_unet=_describe_unet,
    prediction=PredictionType.EPSILON,
    vae_scale=0.13025,
    # Names of the original's blocks, or more transformer layers than others have.
    lora_layers=re.compile(
        r"^lora_unet_(input|output|middle)_block|transformer_blocks[._][2-9]([._]|$)"
    ),
    lora_text_width=1280,
    refiner_width=_REFINER_WIDTH,
    standard_names=frozenset({"stable-diffusion-xl-v1-base", "stable-diffusion-xl-v1-refiner"}),
    trainer_names=("sdxl",),
    pipelines=frozenset(
        {
            "StableDiffusionXLPipeline",
            "StableDiffusionXLImg2ImgPipeline",
            # They add parts to those that text needs, or ask for other inputs beside it.
            "StableDiffusionXLControlNetImg2ImgPipeline",
            "StableDiffusionXLControlNetInpaintPipeline",
            "StableDiffusionXLControlNetPipeline",
            "StableDiffusionXLInpaintPipeline",
            "StableDiffusionXLPAGImg2ImgPipeline",
            "StableDiffusionXLPAGInpaintPipeline",
            "StableDiffusionXLPAGPipeline",
        }
    ),
    libraries=frozenset({"stable_diffusion", "stable_diffusion_xl"}),
    networks={
        "text_encoder": CLIP_TEXT,
        "text_encoder_2": CLIP_TEXT_PROJECTION,
        "unet": replace(UNET, defaults={"sample_size": 128}),
        "vae": VAE,
    },
    tokenizers={"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"},
    incompatible=_incompatible,
)
REFINER = replace(
    _BASE,
    title="SDXL refiner",
    networks={name: each for name, each in _BASE.networks.items() if name != "text_encoder"},
    tokenizers={"tokenizer_2": "text_encoder_2"},
    incompatible=incompatible_refiner,
)
"""A refiner's folder: `stabilityai/stable-diffusion-xl-refiner-1.0` names no first encoder."""

FAMILY = replace(_BASE, refiner=REFINER)
