"""Pictures to scaled latents and back, and the folding of a scale into a VAE's own weights."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

# An AutoencoderKL; diffusers leaves what it consists of untyped.
Vae: TypeAlias = Any

# Encoding 256x256 pictures at the VAE's full width is what fills the memory.
CHUNK = 128


@torch.no_grad()
def encode(vae: Vae, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Scaled latents, float32 [B, 4, H/8, W/8], of pixels [B, 3, H, W] in [-1, 1].

    The distribution's mode, or a sample of it when a generator is given.
    """
    parts = []
    for chunk in torch.split(pixels, CHUNK):
        distribution = vae.encode(chunk.to(vae.dtype)).latent_dist
        parts.append(distribution.sample(generator) if generator else distribution.mode())
    return torch.cat(parts).float() * float(vae.config.scaling_factor)


@torch.no_grad()
def decode(vae: Vae, latents: Tensor) -> Tensor:
    """Pixels, float32 [B, 3, 8H, 8W] around [-1, 1], of scaled latents [B, 4, H, W]."""
    parts = []
    for chunk in torch.split(latents / float(vae.config.scaling_factor), CHUNK):
        parts.append(vae.decode(chunk.to(vae.dtype)).sample.float())
    return torch.cat(parts)


@torch.no_grad()
def fold_latent_scale(vae: Vae, mean: Tensor, deviation: Tensor) -> None:
    """Makes latents with this mean and deviation, [4] each, standard at `scaling_factor`.

    Moves z to (z - mean) / (deviation * scaling_factor) in `quant_conv`, and undoes it in
    `post_quant_conv`, so decoding an encoded picture gives what it gave before. The log
    variances move along. Pipelines then need no shift of their own.
    """
    scale = deviation * float(vae.config.scaling_factor)
    quant, post = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    quant.bias[:channels] -= mean
    quant.bias[:channels] /= scale
    quant.weight[:channels] /= scale[:, None, None, None]
    quant.bias[channels:] -= 2 * scale.log()
    post.bias += (post.weight[:, :, 0, 0] * mean).sum(dim=1)
    post.weight *= scale[None, :, None, None]
