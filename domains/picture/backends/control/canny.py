"""Canny's edges, to the pixel those that ControlNets were trained with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domains.picture.backends.control.components import Mask, joined

Gradient = npt.NDArray[np.int16]
Strength = npt.NDArray[np.int32]
# tan(22.5 degrees) as a whole number over 2^15: where a gradient's direction counts as level.
_SHIFT = 15
_TANGENT = 13573


def canny(pixels: npt.NDArray[np.uint8], low: float, high: float) -> Mask:
    """Where edges are.

    Sources: J. Canny, "A Computational Approach to Edge Detection", IEEE PAMI 8(6), 1986; in
    whole numbers and with the choices of OpenCV's `Canny(image, low, high)`: no smoothing,
    3x3 Sobel kernels, the strength |gx| + |gy|, of several channels the strongest gradient,
    the direction in four sectors, thresholds that have to be exceeded, hysteresis over eight
    neighbours.

    Args:
        pixels: `[height, width, channels]`.
        low: What a pixel joined to an edge exceeds.
        high: What some pixel of each edge exceeds.

    Returns:
        `[height, width]`.
    """
    across, down = _gradient(pixels)
    strength = np.abs(across).astype(np.int32) + np.abs(down)
    ridge = _ridges(across, down, strength, low)
    return joined(ridge & (strength > high), ridge)


def _gradient(pixels: npt.NDArray[np.uint8]) -> tuple[Gradient, Gradient]:
    """To the right and down, of the channel where they are strongest; the first of equals."""
    best: tuple[Gradient, Gradient] | None = None
    for channel in range(pixels.shape[2]):
        across, down = _sobel(pixels[:, :, channel])
        if best is None:
            best = across, down
            continue
        stronger = np.abs(across) + np.abs(down) > np.abs(best[0]) + np.abs(best[1])
        best = np.where(stronger, across, best[0]), np.where(stronger, down, best[1])
    assert best is not None
    return best


def _sobel(plane: npt.NDArray[np.uint8]) -> tuple[Gradient, Gradient]:
    wide = np.pad(plane.astype(np.int16), 1, mode="edge")
    smooth = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    across = smooth[:, 2:] - smooth[:, :-2]
    smooth = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    return across, smooth[2:] - smooth[:-2]


def _ridges(across: Gradient, down: Gradient, strength: Strength, low: float) -> Mask:
    """Where the strength exceeds `low` and is greatest along the gradient."""
    height, width = strength.shape
    rows, columns = np.nonzero(strength > low)
    x = across[rows, columns].astype(np.int64)
    y = down[rows, columns].astype(np.int64)
    level = np.abs(x) * _TANGENT
    rise = np.abs(y) << _SHIFT
    flat = rise < level
    steep = rise > level + (np.abs(x) << (_SHIFT + 1))
    # Along a diagonal, the way that the signs of the two say.
    way = np.where((x ^ y) < 0, -1, 1)
    step_down = np.where(flat, 0, 1)
    step_right = np.where(flat, 1, np.where(steep, 0, way))
    padded = np.zeros((height + 2, width + 2), np.int32)
    padded[1:-1, 1:-1] = strength
    own = strength[rows, columns]
    before = padded[rows + 1 - step_down, columns + 1 - step_right]
    behind = padded[rows + 1 + step_down, columns + 1 + step_right]
    # Of two equal ones side by side the first stays; along a diagonal neither does.
    greatest = (own > before) & np.where(flat | steep, own >= behind, own > behind)
    found = np.zeros((height, width), bool)
    found[rows[greatest], columns[greatest]] = True
    return found
