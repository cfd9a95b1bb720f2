"""Whole models in one file, as people download them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from demo.train.layouts.text import open_clip_text, transformers_text
from demo.train.layouts.unet import original_unet
from demo.train.layouts.vae import original_vae


def sdxl_checkpoint(
    *,
    unet: Mapping[str, Tensor],
    text_encoder: Mapping[str, Tensor],
    text_encoder_2: Mapping[str, Tensor],
    vae: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """A checkpoint in the layout of sd_xl_base_1.0.safetensors from the parts' tensors."""
    return {
        **_behind("model.diffusion_model.", original_unet(unet)),
        **_behind("first_stage_model.", original_vae(vae)),
        **_behind("conditioner.embedders.0.transformer.", transformers_text(text_encoder)),
        **_behind("conditioner.embedders.1.model.", open_clip_text(text_encoder_2)),
    }


def sd1_checkpoint(
    *,
    unet: Mapping[str, Tensor],
    text_encoder: Mapping[str, Tensor],
    vae: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """A checkpoint in the layout of v1-5-pruned-emaonly.safetensors from the parts' tensors."""
    return {
        **_behind("model.diffusion_model.", original_unet(unet)),
        **_behind("first_stage_model.", original_vae(vae)),
        **_behind("cond_stage_model.transformer.", transformers_text(text_encoder)),
    }


def _behind(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}
