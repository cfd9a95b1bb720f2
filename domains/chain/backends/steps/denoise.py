"""A bilateral filter (Tomasi and Manduchi, 1998)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.bands import Between, bands
from domains.chain.types import DenoiseStep

RADIUS, DEVIATION = 3, 1.5
"""Of the window and of the weights by distance, in pixels."""
MOST_LEVELS = 50.0
"""Standard deviation of the weights by likeness at full strength, in levels."""
_ROWS = 64


def denoise(canvas: Canvas, step: DenoiseStep, between: Between) -> Canvas:
    """Make each pixel the mean of those around it that are like it.

    A pixel q of the 7x7 window around p counts, with sRGB levels from 0 to 255, for

        exp(-|q - p|^2 / (2 * 1.5^2)) * exp(-m(p, q) / (2 * (50 * strength)^2))

    where m is the mean over the three channels of the square of their difference: noise is
    averaged away, and what lies beyond an edge hardly counts. Pixels of the rim go on beyond
    it. The mean is rounded to the nearest level, halves to even. A strength of 0 changes
    nothing. Alpha stays.
    """
    if step.strength == 0:
        return canvas
    height, width = canvas.pixels.shape[:2]
    rim = ((RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0))
    padded = np.pad(canvas.pixels, rim, mode="edge")
    result = np.empty_like(canvas.pixels)
    unlike = np.float32(-1 / (3 * 2 * (MOST_LEVELS * step.strength) ** 2))
    for top, bottom in bands(height, _ROWS, between):
        # A plane for each channel: sums over them are sums of whole rows.
        window = padded[top : bottom + 2 * RADIUS].transpose(2, 0, 1).astype(np.float32)
        result[top:bottom] = _mean(window, width, unlike).transpose(1, 2, 0)
    return Canvas(result, canvas.alpha)


def _mean(
    window: npt.NDArray[np.float32], width: int, unlike: np.float32
) -> npt.NDArray[np.float32]:
    """Weighted means `[3, rows, width]` of a window `[3, rows + 6, width + 6]`."""
    rows = window.shape[1] - 2 * RADIUS
    middle = window[:, RADIUS : RADIUS + rows, RADIUS : RADIUS + width]
    total = np.zeros_like(middle)
    weights = np.zeros((rows, width), np.float32)
    for down in range(2 * RADIUS + 1):
        for right in range(2 * RADIUS + 1):
            away = (down - RADIUS) ** 2 + (right - RADIUS) ** 2
            near = np.float32(-away / (2 * DEVIATION**2))
            other = window[:, down : down + rows, right : right + width]
            difference = other - middle
            weight = np.einsum("cyx,cyx->yx", difference, difference)
            weight *= unlike
            weight += near
            np.exp(weight, out=weight)
            weights += weight
            total += weight * other
    mean: npt.NDArray[np.float32] = np.rint(total / weights)
    return mean
