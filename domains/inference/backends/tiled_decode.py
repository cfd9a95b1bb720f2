"""A VAE's decoder over tiles that overlap, for pictures too large to decode whole.

The tiles, their overlap and the blending are those of diffusers' `AutoencoderKL`, bit for
bit in float32. Differently from there, tiles are pasted row by row, so that two rows of
them are in memory and not all, and a stop is looked for before each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Along an edge, in latents; 512 pixels of an SDXL picture.
TILE_LATENTS = 64
OVERLAP = 0.25


def needs_tiles(latents: torch.Tensor) -> bool:
    """Whether `latents` `[1, channels, height, width]` are larger than one tile."""
    return max(latents.shape[-2:]) > TILE_LATENTS


def decode_tiled(
    vae: Any, latents: torch.Tensor, *, scale: int, check_stop: Callable[[], None]
) -> torch.Tensor:
    """Decode tile after tile.

    Args:
        vae: An `AutoencoderKL`.
        latents: `[1, channels, height, width]`, as the decoder takes them.
        scale: Pixels per latent along an edge.
        check_stop: Called before each tile; may raise to stop.

    Returns:
        `[1, 3, height * scale, width * scale]` in pixels, in the VAE's type.
    """
    step = int(TILE_LATENTS * (1 - OVERLAP))
    blended = int(TILE_LATENTS * scale * OVERLAP)
    kept = TILE_LATENTS * scale - blended
    height, width = latents.shape[-2:]
    canvas: torch.Tensor | None = None
    above: list[torch.Tensor] = []
    for top in range(0, height, step):
        row: list[torch.Tensor] = []
        for left in range(0, width, step):
            check_stop()
            tile = latents[:, :, top : top + TILE_LATENTS, left : left + TILE_LATENTS]
            if vae.post_quant_conv is not None:
                tile = vae.post_quant_conv(tile)
            pixels = vae.decoder(tile)
            if above:
                blend(above[len(row)], pixels, blended, dimension=2)
            if row:
                blend(row[-1], pixels, blended, dimension=3)
            row.append(pixels)
            if canvas is None:
                shape = (1, pixels.shape[1], height * scale, width * scale)
                canvas = pixels.new_empty(shape)
            y, x = top // step * kept, left // step * kept
            # Where the last tile reaches less far than the one before, nothing is left over.
            part = pixels[:, :, : min(kept, height * scale - y), : min(kept, width * scale - x)]
            canvas[:, :, y : y + part.shape[2], x : x + part.shape[3]] = part
        above = row
    assert canvas is not None
    return canvas


def blend(before: torch.Tensor, after: torch.Tensor, extent: int, *, dimension: int) -> None:
    """Fade the end of `before` into the beginning of `after`, in place, along an edge."""
    extent = min(before.shape[dimension], after.shape[dimension], extent)
    shape = [1, 1, 1, 1]
    shape[dimension] = extent
    parts = [position / extent for position in range(extent)]
    fading_in = torch.tensor(parts, dtype=torch.float64)
    fading_out = torch.tensor([1 - part for part in parts], dtype=torch.float64)
    end = before.narrow(dimension, before.shape[dimension] - extent, extent)
    start = after.narrow(dimension, 0, extent)
    # Narrowed before they travel: not every device has float64.
    weights_in = fading_in.to(after.dtype).to(after.device).view(shape)
    weights_out = fading_out.to(after.dtype).to(after.device).view(shape)
    start.copy_(end * weights_out + start * weights_in)
