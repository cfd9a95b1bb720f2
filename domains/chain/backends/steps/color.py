"""Colour and tone."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.steps.bands import Between, bands
from domains.chain.backends.steps.light import counted, lit
from domains.chain.types import ColorStep

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a pixel's brightness (ITU-R BT.601), of sRGB levels."""
_CUT_SHARE = 0.005
_ROWS = 256
_Levels = npt.NDArray[np.float64]
_N = TypeVar("_N", np.uint8, np.float32)


def color(canvas: Canvas, step: ColorStep, between: Between) -> Canvas:
    """Change light, levels and colours.

    First the light, as `lit` has it: auto_white_balance, temperature and tint, exposure_stops.
    Then, in this order, on sRGB levels v from 0 to 255, each result clipped to that and none
    rounded but the last, to the nearest level, halves to even:

        auto_contrast  (v - low) * 255 / (high - low); low and high are the levels of the
                       picture's luma between which lie all but its darkest and brightest
                       0.5 %; all channels alike, so that hues stay; nothing where low = high
        brightness     v * brightness
        contrast       m + (v - m) * contrast, with m the mean luma of the picture so far
        saturation     y + (v - y) * saturation, with y the pixel's luma
        gamma          255 * (v / 255) ^ (1 / gamma)

    Luma is 0.299 red + 0.587 green + 0.114 blue. With the defaults nothing changes. Alpha
    stays, and pixels count whatever theirs is.
    """
    if step == ColorStep():
        return canvas
    pixels = canvas.pixels
    light = lit(pixels, step)
    levels = np.tile(np.arange(256, dtype=np.float64), (3, 1)) if light is None else light
    if step.auto_contrast:
        levels = _stretched(levels, _looked_up(np.rint(levels).astype(np.uint8), pixels))
    levels = (levels * step.brightness).clip(0, 255)
    if step.contrast != 1:
        mean = _mean_luma(levels, pixels)
        levels = (mean + (levels - mean) * step.contrast).clip(0, 255)
    rounded, floats = _rounded(levels, step.gamma), levels.astype(np.float32)
    # Of each channel its share of itself and of luma: y + (v - y) * saturation.
    mixed = step.saturation * np.eye(3) + (1 - step.saturation) * np.array(LUMA)[:, None]
    result = np.empty_like(pixels)
    for top, bottom in bands(pixels.shape[0], _ROWS, between):
        if step.saturation == 1:
            result[top:bottom] = _looked_up(rounded, pixels[top:bottom])
            continue
        part = _looked_up(floats, pixels[top:bottom])
        blended = part.reshape(-1, 3) @ mixed.astype(np.float32)
        np.clip(blended, 0, 255, out=blended)
        result[top:bottom] = _rounded(blended.reshape(part.shape), step.gamma)
    return Canvas(result, canvas.alpha)


def _looked_up(table: npt.NDArray[_N], pixels: Pixels) -> npt.NDArray[_N]:
    """What a table `[3, 256]` has for the levels of each channel."""
    result = np.empty(pixels.shape, table.dtype)
    for channel, row in enumerate(table):
        result[..., channel] = row[pixels[..., channel]]
    return result


def _stretched(levels: _Levels, pixels: Pixels) -> _Levels:
    """`levels`, which made the picture `pixels`."""
    counts = np.asarray(Image.fromarray(pixels).convert("L").histogram())
    cut = int(counts.sum() * _CUT_SHARE)
    low = int(np.searchsorted(counts.cumsum(), cut, side="right"))
    high = 255 - int(np.searchsorted(counts[::-1].cumsum(), cut, side="right"))
    if low >= high:
        return levels
    return ((levels - low) * 255 / (high - low)).clip(0, 255)


def _mean_luma(levels: _Levels, pixels: Pixels) -> float:
    shares = (
        share * float(row @ count)
        for share, row, count in zip(LUMA, levels, counted(pixels), strict=True)
    )
    return float(sum(shares) / (pixels.shape[0] * pixels.shape[1]))


def _rounded(levels: npt.NDArray[np.floating], gamma: float) -> Pixels:
    if gamma != 1:
        levels = 255 * (levels / 255) ** (1 / gamma)
    rounded: Pixels = np.rint(levels).astype(np.uint8)
    return rounded
