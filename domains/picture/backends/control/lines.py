"""Soft edges, line art and scribbles; each is white on black, as ControlNets take them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from domains.picture.backends.control.canny import canny
from domains.picture.backends.control.components import Mask
from domains.picture.backends.control.gaussian import Plane, blurred, kernel

Pixels = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.uint8]
_WHITE = 255
# What a line is compared with, and how bright the middle one of all lines becomes.
_SURROUNDINGS = 6.0
_USUAL_LINE = 127.0
# Between what two grey levels an edge is worth a stroke, and worth going on with one.
_BOLD_STEP, _FAINT_STEP = 40.0, 20.0


def soft_edges(pixels: Pixels, radius: float) -> Grey:
    """How steep the blurred picture is.

    255 sqrt(max over channels of g |grad(G * channel)| / 255): G is the Gaussian of the
    standard deviation `radius`, the gradient has central differences, and g makes 255 of an
    edge between black and white. The root lifts faint edges, as the networks do whose
    pictures such ControlNets were trained with.

    Args:
        pixels: `[height, width, 3]`.
        radius: In pixels.

    Returns:
        `[height, width]`.
    """
    weights = kernel(radius)
    middle = len(weights) // 2
    gain = 2.0 / (weights[middle] + weights[middle + 1])
    steepest = np.zeros(pixels.shape[:2], np.float32)
    for plane in _planes(pixels):
        wide = np.pad(blurred(plane, radius), 1, mode="edge")
        across = (wide[1:-1, 2:] - wide[1:-1, :-2]) / 2.0
        down = (wide[2:, 1:-1] - wide[:-2, 1:-1]) / 2.0
        np.maximum(steepest, np.hypot(across, down), out=steepest)
    return _eight_bits(_WHITE * np.sqrt(np.minimum(gain * steepest / _WHITE, 1.0)))


def line_art(pixels: Pixels, threshold: float) -> Grey:
    """Lines that are darker than what is around them.

    d = min over channels of (G * channel - channel), G the Gaussian of 6 pixels; what is below
    `threshold` is no line, and 127 d / median(d) of the others is how bright they are.

    Args:
        pixels: `[height, width, 3]`.
        threshold: In levels of 255.

    Returns:
        `[height, width]`.
    """
    darker = np.full(pixels.shape[:2], _WHITE, np.float32)
    for plane in _planes(pixels):
        np.minimum(darker, blurred(plane, _SURROUNDINGS) - plane, out=darker)
    # Rounding alone makes a flat picture a little darker than itself.
    lines = darker >= max(threshold, 1.0)
    if not lines.any():
        return np.zeros(darker.shape, np.uint8)
    scale = _USUAL_LINE / float(np.median(darker[lines]))
    return _eight_bits(np.where(lines, np.minimum(darker * scale, _WHITE), 0.0))


def scribble(pixels: Pixels, stroke: int) -> Grey:
    """The edges that are left after a blur by half a stroke, drawn with a round pen.

    Args:
        pixels: `[height, width, 3]`.
        stroke: The pen's width in pixels.

    Returns:
        `[height, width]`, 0 or 255.
    """
    deviation = max(stroke / 2.0, 1.0)
    smooth = np.stack([_eight_bits(blurred(p, deviation)) for p in _planes(pixels)], axis=-1)
    # What Sobel's kernels, whose weights sum up to 8, make of a blurred step of one level.
    per_level = 8.0 * float(kernel(deviation).max())
    edges = canny(smooth, _FAINT_STEP * per_level, _BOLD_STEP * per_level)
    return np.where(_widened(edges, stroke), _WHITE, 0).astype(np.uint8)


def _widened(edges: Mask, stroke: int) -> Mask:
    """Every edge pixel as a disc of that diameter."""
    height, width = edges.shape
    middle = (stroke - 1) / 2.0
    spans: dict[tuple[int, int], list[int]] = {}
    for row in range(stroke):
        half = math.sqrt(max((stroke / 2.0) ** 2 - (row - middle) ** 2, 0.0))
        span = math.ceil(middle - half), math.floor(middle + half)
        spans.setdefault(span, []).append(row)
    before = stroke // 2
    counted = np.zeros((height, width + 2 * stroke + 1), np.int32)
    counted[:, stroke + 1 : stroke + 1 + width] = np.cumsum(edges, axis=1, dtype=np.int32)
    counted[:, stroke + 1 + width :] = counted[:, stroke + width : stroke + width + 1]
    found = np.zeros((height + stroke, width), bool)
    for (first, last), rows in spans.items():
        # A pixel is within reach of an edge that lies so much further left or right.
        right, left = stroke + before - first, stroke + before - last
        hit = counted[:, right + 1 : right + 1 + width] > counted[:, left : left + width]
        for row in rows:
            found[row : row + height] |= hit
    return found[before : before + height]


def _planes(pixels: Pixels) -> Iterator[Plane]:
    """Each channel, one at a time."""
    for channel in range(pixels.shape[2]):
        yield pixels[:, :, channel].astype(np.float32)


def _eight_bits(values: Plane) -> Grey:
    return np.rint(values).clip(0, _WHITE).astype(np.uint8)
