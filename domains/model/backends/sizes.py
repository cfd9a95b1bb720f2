"""The size that a model draws best at, from its configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.errors import FailedPrecondition, Reason
from domains.limits import LIMITS


def latent_size(unet: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width in latents that the UNet of a checked configuration is made for."""
    sample = unet["sample_size"]
    height, width = sample if isinstance(sample, list) else (sample, sample)
    return height, width


def pixels_per_latent(vae: Mapping[str, Any]) -> int:
    """Pixels along an edge that one latent of a checked VAE stands for."""
    return 1 << (len(vae["block_out_channels"]) - 1)


def native_size(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels of two checked configurations."""
    scale = pixels_per_latent(vae)
    height, width = latent_size(unet)
    return width * scale, height * scale


def check_native_size(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """Refuse a model whose own size no request may ask for.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    for edge, pixels in zip(("width", "height"), native_size(unet, vae), strict=True):
        limit = LIMITS[f"GenerationSettings.{edge}"]
        least, most = limit.minimum or 0, limit.maximum or pixels
        if not least <= pixels <= most or pixels % (limit.multiple_of or 1):
            raise FailedPrecondition(
                f"The model's unet/config.json has a sample_size that makes pictures of a "
                f"{edge} of {pixels} pixels; {least:.0f} to {most:.0f} in steps of "
                f"{limit.multiple_of} are possible. Correct the file or fetch it again.",
                reason=Reason.MODEL_CONFIG_INVALID,
                metadata={"file": "unet/config.json", "component": "unet"},
            )
