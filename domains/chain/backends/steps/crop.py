"""A part of the picture."""

from __future__ import annotations

import numpy as np

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.steps.bands import Between
from domains.chain.types import CropStep


def crop(canvas: Canvas, step: CropStep, between: Between) -> Canvas:
    """Cut out the pixels of a box that lies inside the picture; none of them changes."""

    def cut(plane: Pixels) -> Pixels:
        rows = slice(step.top, step.top + step.height)
        return np.ascontiguousarray(plane[rows, step.left : step.left + step.width])

    return Canvas(cut(canvas.pixels), None if canvas.alpha is None else cut(canvas.alpha))
