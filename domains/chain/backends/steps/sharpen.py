"""Unsharp mask."""

from __future__ import annotations

import numpy as np

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.bands import Between, bands
from domains.chain.types import SharpenStep
from domains.picture.backends.control.gaussian import blurred, kernel

_ROWS = 1_024


def sharpen(canvas: Canvas, step: SharpenStep, between: Between) -> Canvas:
    """Add to each level what a Gaussian blur takes from it.

    On each channel p of sRGB levels, from 0 to 255:

        d = p - G(p)
        result = p + amount * d where |d| >= threshold, p elsewhere

    rounded to the nearest level, halves to even, and clipped. G is a Gaussian of standard
    deviation `radius_pixels`, cut off after four of those; pixels of the rim go on beyond it.
    Alpha stays, and colours are sharpened whatever it is.
    """
    if step.amount == 0:
        return canvas
    height = canvas.pixels.shape[0]
    reach = len(kernel(step.radius_pixels)) // 2
    result = np.empty_like(canvas.pixels)
    for top, bottom in bands(height, _ROWS, between):
        first = max(top - reach, 0)
        source = canvas.pixels[first : min(bottom + reach, height)]
        for channel in range(3):
            plane = source[..., channel].astype(np.float32)
            own = slice(top - first, bottom - first)
            soft = blurred(plane, step.radius_pixels)
            detail = np.subtract(plane[own], soft[own])
            if step.threshold:
                detail[np.abs(detail) < step.threshold] = 0
            detail *= np.float32(step.amount)
            detail += plane[own]
            np.rint(detail, out=detail)
            result[top:bottom, :, channel] = detail.clip(0, 255, out=detail)
    return Canvas(result, canvas.alpha)
