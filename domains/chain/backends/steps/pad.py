"""More around a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.bands import Between, bands
from domains.chain.types import PadMode, PadStep, colour_of

_ROWS = 1_024
_OPAQUE = 255


def pad(canvas: Canvas, step: PadStep, between: Between) -> Canvas:
    """Put more around the picture; none of its own pixels changes.

    FILL puts the colour there, and makes the picture one with an alpha where the colour is not
    opaque. EDGE repeats the outermost pixels, REFLECT mirrors the picture at them, over and
    over where it is smaller than what is put around; alpha likewise. Nothing around changes
    nothing.
    """
    width, height = step.size_after(canvas.size)
    if (width, height) == canvas.size:
        return canvas
    rows = _sources(canvas.size[1], step.top, height, step.mode)
    columns = _sources(canvas.size[0], step.left, width, step.mode)
    colour = colour_of(step.fill)
    assert colour is not None, "it has been checked"
    *fill, opacity = np.array(colour, np.uint8)
    pixels = np.empty((height, width, 3), np.uint8)
    has_alpha = canvas.alpha is not None or (step.mode is PadMode.FILL and opacity != _OPAQUE)
    alpha = np.empty((height, width), np.uint8) if has_alpha else None
    for top, bottom in bands(height, _ROWS, between):
        place = np.ix_(rows[top:bottom], columns)
        own = (place[0] >= 0) & (place[1] >= 0)
        pixels[top:bottom] = np.where(own[..., None], canvas.pixels[place], fill)
        if alpha is not None:
            before = np.uint8(_OPAQUE) if canvas.alpha is None else canvas.alpha[place]
            alpha[top:bottom] = np.where(own, before, opacity)
    return Canvas(pixels, alpha)


def _sources(edge: int, before: int, length: int, mode: PadMode) -> npt.NDArray[np.intp]:
    """Which row of the picture is on each of the result, likewise of columns; -1 for none."""
    places = np.arange(length) - before
    match mode:
        case PadMode.EDGE:
            return places.clip(0, edge - 1)
        case PadMode.REFLECT:
            period = max(1, 2 * (edge - 1))
            places %= period
            return np.minimum(places, period - places) if edge > 1 else places
    return np.where((places >= 0) & (places < edge), places, -1)
