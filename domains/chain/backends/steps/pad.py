"""More around a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domains.chain.backends.canvas import Canvas, Pixels
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
    colour = colour_of(step.fill)
    assert colour is not None, "it has been checked"
    *fill, opacity = colour
    pixels = np.empty((height, width, 3), np.uint8)
    has_alpha = canvas.alpha is not None or (step.mode is PadMode.FILL and opacity != _OPAQUE)
    alpha = np.empty((height, width), np.uint8) if has_alpha else None
    for top, bottom in bands(height, _ROWS, between):
        _put(pixels[top:bottom], top, canvas.pixels, step, np.array(fill, np.uint8))
        if alpha is None:
            continue
        before = canvas.alpha
        if before is None:  # all of it opaque, of a size that takes no memory
            before = np.broadcast_to(np.uint8(_OPAQUE), canvas.pixels.shape[:2])
        _put(alpha[top:bottom], top, before, step, np.uint8(opacity))
    return Canvas(pixels, alpha)


def _put(
    band: Pixels, top: int, plane: Pixels, step: PadStep, fill: npt.NDArray[np.uint8] | np.uint8
) -> None:
    """Write the rows of the result from `top` on that `band` has, of a picture's `plane`."""
    height, width = plane.shape[:2]
    inside = slice(step.left, step.left + width)
    if step.mode is PadMode.FILL:
        # A row first: whole rows are copied many times faster than single pixels.
        row = np.empty(band.shape[1:], np.uint8)
        row[...] = fill
        band[...] = row
        first = max(0, top - step.top)
        last = min(height, top - step.top + len(band))
        if first < last:
            start = first + step.top - top
            band[start : start + last - first, inside] = plane[first:last]
        return
    rows = _sources(height, step.top, top, len(band), step.mode)
    band[:, inside] = plane[rows]
    for begin, end in ((0, step.left), (step.left + width, band.shape[1])):
        columns = _sources(width, step.left, begin, end - begin, step.mode)
        band[:, begin:end] = plane[np.ix_(rows, columns)]


def _sources(
    edge: int, before: int, begin: int, count: int, mode: PadMode
) -> npt.NDArray[np.intp]:
    """Which row of a picture with `edge` is on each of `count` of the result from `begin` on,
    of which `before` come before it; likewise of columns."""
    places = np.arange(begin - before, begin - before + count)
    if mode is PadMode.EDGE:
        return places.clip(0, edge - 1)
    period = max(1, 2 * (edge - 1))
    places %= period
    return np.minimum(places, period - places) if edge > 1 else places
