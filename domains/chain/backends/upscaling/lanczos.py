"""Pictures made another size by Lanczos, across first and then down, part by part.

Pillow lays out four bytes for each pixel that it is given and each that it makes; of what a
network made too large that would be several times what the result has.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from domains.chain.backends.canvas import Pixels

_ROWS = 512


def widened(pixels: Pixels, width: int) -> Pixels:
    """uint8 `[height, width, 3]` of as many rows and another width; the same where it has that.
    Rows do not depend on each other, so that parts of a picture come out as it does."""
    height, before = pixels.shape[:2]
    if before == width:
        return pixels
    found = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        band = Image.fromarray(pixels[top : top + _ROWS])
        other = band.resize((width, band.height), Image.Resampling.LANCZOS)
        found[top : top + _ROWS] = np.asarray(other)
    return found


def heightened(pixels: Pixels, height: int) -> Pixels:
    """As `widened`, of as many columns and another height."""
    before, width = pixels.shape[:2]
    if before == height:
        return pixels
    found = np.empty((height, width, 3), np.uint8)
    for left in range(0, width, _ROWS):
        strip = Image.fromarray(pixels[:, left : left + _ROWS])
        other = strip.resize((strip.width, height), Image.Resampling.LANCZOS)
        found[:, left : left + _ROWS] = np.asarray(other)
    return found
