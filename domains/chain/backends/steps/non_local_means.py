"""Non-local means (Buades, Coll and Morel, 2005), by OpenCV."""

from __future__ import annotations

import numpy as np

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.bands import Between, bands
from domains.chain.types import DenoiseStep

PATCH, WINDOW = 7, 21
"""Edges in pixels of what is compared, and of where it is looked for."""
MOST_STRENGTH = 20.0
"""OpenCV's `h` at full strength, in levels."""
_REACH = PATCH // 2 + WINDOW // 2
_ROWS = 64


def non_local_means(canvas: Canvas, step: DenoiseStep, between: Between) -> Canvas:
    """Make each pixel the mean of those around it whose surroundings are like its own.

    A pixel q of the 21x21 window around p counts, with sRGB levels from 0 to 255, for

        exp(-d(p, q) / (20 * strength)^2)

    where d is the mean, over the 7x7 pixels around each and the three channels, of the square
    of their difference, as OpenCV's `fastNlMeansDenoising` rounds it. The picture is mirrored
    at its rim. A strength of 0 changes nothing. Alpha stays.
    """
    if step.strength == 0:
        return canvas
    import cv2  # an extra, and slow to import

    # Mirrored here, so that bands are what the whole would be.
    rim = ((_REACH, _REACH), (_REACH, _REACH), (0, 0))
    padded = np.pad(canvas.pixels, rim, mode="reflect")
    height, width = canvas.pixels.shape[:2]
    result = np.empty_like(canvas.pixels)
    strength = MOST_STRENGTH * step.strength
    for top, bottom in bands(height, _ROWS, between):
        band = np.ascontiguousarray(padded[top : bottom + 2 * _REACH])
        found = cv2.fastNlMeansDenoising(band, None, strength, PATCH, WINDOW)
        result[top:bottom] = found[_REACH:-_REACH, _REACH : _REACH + width]
    return Canvas(result, canvas.alpha)
