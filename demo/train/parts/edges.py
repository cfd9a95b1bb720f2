"""Canny's edges for batches of pictures, on any device.

Source: J. Canny, "A Computational Approach to Edge Detection", IEEE PAMI 8(6), 1986:
smoothing, gradient, non-maximum suppression across the edge, hysteresis along it. Gradients
are those of the 3x3 Sobel kernels on 8-bit luma, so thresholds mean what they mean in the
usual preprocessors (100 and 200).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LOW = 100.0
HIGH = 200.0
SIGMA = 1.0
LEVELS_PER_UNIT = 16

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
# Steps of (row, column) to the neighbour that the gradient points at, by its angle in
# eighths of a turn; the neighbour on the other side is the negative.
_NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1))
# How often hysteresis asks whether it still grows: asking waits for the device.
_GROWTH_PER_QUESTION = 16


def canny(
    pixels: Tensor, *, low: float = LOW, high: float = HIGH, sigma: float = SIGMA
) -> Tensor:
    """Find edges.

    Args:
        pixels: float [B, 3, H, W] in [-1, 1].
        low: Gradient from which a pixel joined to an edge belongs to it.
        high: Gradient from which a pixel is an edge by itself.
        sigma: Standard deviation of the smoothing, in pixels; 0 does not smooth.

    Returns:
        float32 [B, 1, H, W], 1 on edges, 0 elsewhere.

    Raises:
        ValueError: `low` is above `high`, or one is not positive; `sigma` is negative.
    """
    if not 0 < low <= high:
        raise ValueError(f"low and high must satisfy 0 < low <= high, not {low} and {high}.")
    if sigma < 0:
        raise ValueError(f"sigma must not be negative, and is {sigma}.")
    with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
        luma = pixels.new_tensor(_LUMA, dtype=torch.float32).view(1, 3, 1, 1)
        grey = ((pixels.float() + 1) * 127.5 * luma).sum(1, keepdim=True)
        strength, angle = _gradient(_smoothed(grey, sigma))
        thin = _thinned(strength, angle)
        return _joined(thin >= high, thin >= low).float()


def _smoothed(grey: Tensor, sigma: float) -> Tensor:
    if sigma == 0:
        return grey
    radius = max(1, math.ceil(2 * sigma))
    places = torch.arange(-radius, radius + 1, device=grey.device, dtype=torch.float32)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = functional.pad(grey, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1))


def _gradient(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and direction (radians, image rows pointing down) of the gradient."""
    across = grey.new_tensor(_SOBEL)
    kernels = torch.stack((across, across.T)).unsqueeze(1)
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    x, y = functional.conv2d(padded, kernels).chunk(2, dim=1)
    # Rounded, so that which of two equal neighbours is kept hangs on no rounding error.
    strength = (torch.hypot(x, y) * LEVELS_PER_UNIT).round() / LEVELS_PER_UNIT
    return strength, torch.atan2(y, x)


def _thinned(strength: Tensor, angle: Tensor) -> Tensor:
    """Strength where it is greatest across the edge, 0 elsewhere."""
    sector = torch.round(angle / (math.pi / 4)).long() % 4
    thin = torch.zeros_like(strength)
    for number, (row, column) in enumerate(_NEIGHBOURS):
        ahead = _shifted(strength, row, column)
        behind = _shifted(strength, -row, -column)
        # Of two equal ones on a plateau one is kept: >= on one side only.
        greatest = (strength > behind) & (strength >= ahead)
        thin = torch.where((sector == number) & greatest, strength, thin)
    return thin


def _shifted(picture: Tensor, row: int, column: int) -> Tensor:
    """The neighbour at (row, column) of every pixel; 0 outside."""
    height, width = picture.shape[-2:]
    padded = functional.pad(picture, (1, 1, 1, 1))
    return padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]


def _joined(strong: Tensor, weak: Tensor) -> Tensor:
    """Weak pixels that a chain of weak ones joins to a strong one, and the strong ones."""
    edges = strong.float()
    allowed = weak.float()
    while True:
        before = edges.count_nonzero()
        for _ in range(_GROWTH_PER_QUESTION):
            edges = functional.max_pool2d(edges, 3, stride=1, padding=1) * allowed
        if bool(edges.count_nonzero() == before):
            return edges
