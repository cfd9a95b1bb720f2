"""A VAE's encoder over tiles that overlap, for pictures too large to encode whole.

The tiles, their overlap and the blending are those of diffusers' `AutoencoderKL`, bit for bit
in float32. Differently from there, a stop is looked for before each tile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from domains.inference.backends.tiled_decode import OVERLAP, TILE_LATENTS, blend


def encode_tiled(
    vae: Any, image: torch.Tensor, *, scale: int, check_stop: Callable[[], None]
) -> torch.Tensor:
    """Encode tile after tile.

    Args:
        vae: An `AutoencoderKL`.
        image: `[1, 3, height, width]` in pixels, in the VAE's type.
        scale: Pixels per latent along an edge.
        check_stop: Called before each tile; may raise to stop.

    Returns:
        `[1, 2 * channels, height // scale, width // scale]`: the means, then the logarithms of
        the variances, in the VAE's type.
    """
    edge = TILE_LATENTS * scale
    step = int(edge * (1 - OVERLAP))
    blended = int(TILE_LATENTS * OVERLAP)
    kept = TILE_LATENTS - blended
    height, width = image.shape[-2:]
    rows: list[torch.Tensor] = []
    above: list[torch.Tensor] = []
    for top in range(0, height, step):
        row: list[torch.Tensor] = []
        for left in range(0, width, step):
            check_stop()
            tile = vae.encoder(image[:, :, top : top + edge, left : left + edge])
            if vae.quant_conv is not None:
                tile = vae.quant_conv(tile)
            if above:
                blend(above[len(row)], tile, blended, dimension=2)
            if row:
                blend(row[-1], tile, blended, dimension=3)
            row.append(tile)
        rows.append(torch.cat([tile[:, :, :kept, :kept] for tile in row], dim=3))
        above = row
    return torch.cat(rows, dim=2)
