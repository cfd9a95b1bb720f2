"""The size that a model draws best at, from its configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from domains.errors import FailedPrecondition, Reason
from domains.limits import LIMITS

_RESOLUTION = re.compile(r"(?P<width>\d{2,5})x(?P<height>\d{2,5})")
_EDGES = ("width", "height")


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


def sample_size(resolution: str, vae: Mapping[str, Any]) -> list[int] | None:
    """Height and width in latents of a size in pixels such as `1024x768`.

    None for what is none, and for a size that no request may ask for.
    """
    match = _RESOLUTION.fullmatch(resolution)
    scale = pixels_per_latent(vae)
    if match is None or not all(_possible(edge, int(match[edge])) for edge in _EDGES):
        return None
    return [int(match[edge]) // scale for edge in reversed(_EDGES)]


def check_native_size(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """Refuse a model whose own size no request may ask for.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    for edge, pixels in zip(_EDGES, native_size(unet, vae), strict=True):
        if not _possible(edge, pixels):
            limit = LIMITS[f"GenerationSettings.{edge}"]
            raise FailedPrecondition(
                f"The model's unet/config.json has a sample_size that makes pictures of a "
                f"{edge} of {pixels} pixels; {limit.minimum:.0f} to {limit.maximum:.0f} in "
                f"steps of {limit.multiple_of} are possible. Correct the file or fetch it "
                "again.",
                reason=Reason.MODEL_CONFIG_INVALID,
                metadata={"file": "unet/config.json", "component": "unet"},
            )


def _possible(edge: str, pixels: int) -> bool:
    limit = LIMITS[f"GenerationSettings.{edge}"]
    least, most = limit.minimum or 0, limit.maximum or pixels
    return least <= pixels <= most and not pixels % (limit.multiple_of or 1)
