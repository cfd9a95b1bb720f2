"""Only people stay."""

from __future__ import annotations

import numpy as np

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.bands import Between
from domains.chain.types import RemoveBackgroundStep
from domains.picture.backends.carried.people import people_mask


def remove_background(canvas: Canvas, step: RemoveBackgroundStep, between: Between) -> Canvas:
    """The same colours, with an alpha that is opaque where people are; what was transparent
    before stays so. See `people_mask` for what it finds."""
    alpha = people_mask(canvas.pixels)
    if canvas.alpha is not None:
        alpha = np.minimum(alpha, canvas.alpha)
    between(1, 1)
    return Canvas(canvas.pixels, alpha)
