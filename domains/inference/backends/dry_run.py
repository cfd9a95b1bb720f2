"""Networks without weights, run once without numbers: do they take what they will be given?

Torch's meta device works out shapes and nothing else, in a fraction of a second for the
largest of them. What a configuration breaks, it breaks here, before any weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from domains.limits import LIMITS
from domains.model.backends.component_config import invalid
from domains.model.backends.families.sdxl import TIME_IDS
from domains.model.backends.library_errors import blamed_on
from domains.model.backends.sizes import pixels_per_latent

# Guidance has two texts in a batch; CLIP's window is 77 tokens.
_BATCH = 2
_TOKENS = 77
_META = torch.device("meta")


def try_networks(networks: Mapping[str, nn.Module], configs: Mapping[str, Any]) -> None:
    """Run UNet and VAE once at the smallest size that a request may ask for.

    Args:
        networks: On the meta device, by folder.
        configs: Their checked configurations, by folder.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID of the network that fails, or whose output
            is of another shape than the next one takes.
    """
    unet, vae = configs["unet"], configs["vae"]
    scale = pixels_per_latent(vae)
    pixels = int(LIMITS["GenerationSettings.width"].minimum or 0)
    latents = (vae["latent_channels"], pixels // scale, pixels // scale)
    with torch.no_grad(), _META:
        with blamed_on("unet", "config.json"):
            noise: Any = networks["unet"](
                torch.empty(_BATCH, *latents),
                torch.ones(()),
                encoder_hidden_states=torch.empty(_BATCH, _TOKENS, unet["cross_attention_dim"]),
                added_cond_kwargs=_added(unet),
                return_dict=False,
            )[0]
        _check_shape("unet", noise, (_BATCH, *latents))
        network: Any = networks["vae"]
        with blamed_on("vae", "config.json"):
            image = network.decode(torch.empty(1, *latents), return_dict=False)[0]
        _check_shape("vae", image, (1, 3, pixels, pixels))
        with blamed_on("vae", "config.json"):
            encoded = network.encode(image).latent_dist.mean
        _check_shape("vae", encoded, (1, *latents))


def _added(unet: Mapping[str, Any]) -> dict[str, torch.Tensor] | None:
    if unet.get("addition_embed_type") is None:
        return None
    width = unet["projection_class_embeddings_input_dim"]
    pooled = width - TIME_IDS * unet["addition_time_embed_dim"]
    return {
        "text_embeds": torch.empty(_BATCH, pooled),
        "time_ids": torch.empty(_BATCH, TIME_IDS),
    }


def _check_shape(component: str, output: torch.Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(output.shape) != wanted:
        raise invalid(f"{component}/config.json", "gives an output of another shape")
