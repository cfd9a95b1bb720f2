"""Gaussian blur of whole pictures, as exact for wide ones as for narrow ones."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
# Where the bell is cut off, in standard deviations; what is left out is less than a level.
_REACH = 4.0
# Rows that one multiplication makes. The band is wider than high beyond that.
_BLOCK = 128


def kernel(deviation: float) -> npt.NDArray[np.float64]:
    """The weights of a row's pixels, whose sum is 1; as many on either side of the middle.

    w(i) ~ exp(-i^2 / (2 deviation^2)), |i| <= max(1, ceil(4 deviation)).
    """
    radius = max(1, math.ceil(_REACH * deviation))
    places = np.arange(-radius, radius + 1, dtype=np.float64)
    weights = np.exp(-(places**2) / (2.0 * deviation**2))
    normalised: npt.NDArray[np.float64] = weights / weights.sum()
    return normalised


def blurred(plane: Plane, deviation: float) -> Plane:
    """The plane `[height, width]` under a Gaussian; its outermost pixels go on beyond it.

    Args:
        plane: One channel.
        deviation: Standard deviation in pixels.
    """
    weights = kernel(deviation)
    return _down(_down(plane, weights).T, weights).T


def _down(plane: Plane, weights: npt.NDArray[np.float64]) -> Plane:
    """Weigh each column, as products with a band matrix: block by block, since most of the
    whole matrix would be zeros."""
    reach = len(weights) // 2
    height, width = plane.shape
    padded = np.pad(plane, ((reach, reach), (0, 0)), mode="edge")
    band = np.zeros((_BLOCK, _BLOCK + 2 * reach), np.float32)
    for row in range(_BLOCK):
        band[row, row : row + len(weights)] = weights
    result = np.empty((height, width), np.float32)
    for top in range(0, height, _BLOCK):
        rows = min(_BLOCK, height - top)
        source = padded[top : top + rows + 2 * reach]
        result[top : top + rows] = band[:rows, : rows + 2 * reach] @ source
    return result
