"""Drawing styles, as functions from batches of pictures to batches of pictures.

Each takes and returns float32 [B, 3, H, W] in [-1, 1] on any device, H and W divisible by
`CELL`. They are what the style LoRAs and the comic checkpoint are taught, so each has to
survive a VAE that keeps one latent per 8 x 8 pixels: outlines are about 4 pixels wide, the
cells of pixel art 16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# Pixel art's cell, in pixels: two latents a side.
CELL = 16
PIXEL_ART_LEVELS = 8
COMIC_LEVELS = 4

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
# How much wider than the gradient a line is drawn, in pixels.
_WIDER = 3
_COMIC_SATURATION = 1.4
# How far from the background's colour still is background, in [-1, 1] units.
_BACKGROUND = 0.15


def line_art(pixels: Tensor) -> Tensor:
    """Dark outlines on white, without colour."""
    return (1 - 2 * outlines(pixels, sigma=1.0, black=0.09)).expand(-1, 3, -1, -1).contiguous()


def pixel_art(pixels: Tensor) -> Tensor:
    """Cells of `CELL` x `CELL` pixels of one colour each, of `PIXEL_ART_LEVELS` per channel."""
    cells = functional.avg_pool2d(pixels, CELL)
    return functional.interpolate(
        _posterised(cells, PIXEL_ART_LEVELS), scale_factor=CELL, mode="nearest"
    )


def comic(pixels: Tensor) -> Tensor:
    """Strong colours in `COMIC_LEVELS` levels per channel, and thick dark outlines.

    A plain background, told by the picture's first pixel, is flat already and keeps its colour,
    which the prompt names.
    """
    smooth = _blurred(pixels, 1.5)
    luma = smooth.new_tensor(_LUMA).view(1, 3, 1, 1)
    grey = (smooth * luma).sum(1, keepdim=True)
    strong = (grey + _COMIC_SATURATION * (smooth - grey)).clamp(-1, 1)
    # Steps between levels are smoothed a little; a hard staircase is noise to the VAE.
    flat = _blurred(_posterised(strong, COMIC_LEVELS), 0.6)
    distance = (pixels - pixels[..., :1, :1]).square().sum(1, keepdim=True)
    background = torch.exp(-distance / _BACKGROUND**2)
    flat = torch.lerp(flat, pixels, background)
    ink = outlines(pixels, sigma=1.2, black=0.10)
    return flat * (1 - ink) - ink


def outlines(pixels: Tensor, *, sigma: float, black: float) -> Tensor:
    """Where colours change, as ink.

    Neighbouring surfaces of an emoji often differ in hue alone, so the gradient is taken per
    channel, and the strongest channel counts.

    Args:
        pixels: float32 [B, 3, H, W] in [-1, 1].
        sigma: Smoothing before the gradient, in pixels; more ignores finer detail.
        black: Change per pixel, in [0, 1] units, that makes full ink; half of it makes none.

    Returns:
        float32 [B, 1, H, W] in [0, 1]; 1 is full ink.
    """
    strength = _gradient((_blurred(pixels, sigma) + 1) / 2).amax(1, keepdim=True)
    ink = (2 * strength / black - 1).clamp(0, 1)
    wide = functional.max_pool2d(ink, _WIDER, stride=1, padding=_WIDER // 2)
    return _blurred(wide, 0.6)


def _posterised(pixels: Tensor, levels: int) -> Tensor:
    steps = levels - 1
    return ((pixels + 1) / 2 * steps).round().div(steps) * 2 - 1


def _blurred(pixels: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(2 * sigma))
    places = torch.arange(-radius, radius + 1, device=pixels.device, dtype=pixels.dtype)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(pixels.shape[1], 1, -1)
    padded = functional.pad(pixels, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel.unsqueeze(2), groups=pixels.shape[1])
    return functional.conv2d(rows, kernel.unsqueeze(3), groups=pixels.shape[1])


def _gradient(pixels: Tensor) -> Tensor:
    """Change per pixel of every channel, [B, C, H, W]."""
    channels = pixels.shape[1]
    across = pixels.new_tensor(_SOBEL) / 8
    kernels = torch.stack((across, across.T)).unsqueeze(1).repeat(channels, 1, 1, 1)
    padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
    both = functional.conv2d(padded, kernels, groups=channels)
    return torch.hypot(both[:, 0::2], both[:, 1::2])
