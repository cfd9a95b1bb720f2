"""How near a picture comes to another one of its size, pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from domains.chain.backends.canvas import Pixels
from domains.chain.jobs import PictureQuality
from domains.model.jobs import MOST_DB

WINDOW = 11
"""Edge of the window that structures are looked at through, in pixels."""
_SIGMA = 1.5
_REACH = WINDOW // 2
_LARGEST = 255.0
# What keeps quotients steady where there is little to divide by: (K L)^2.
_C1, _C2 = (0.01 * _LARGEST) ** 2, (0.03 * _LARGEST) ** 2
_PIXELS_AT_ONCE = 1 << 18


def quality_of(
    picture: Pixels, reference: Pixels, check_stop: Callable[[], None] = lambda: None
) -> PictureQuality:
    """Both figures of a picture; `check_stop` is called now and then, and may raise."""
    return PictureQuality(
        psnr_db(picture, reference, check_stop), ssim(picture, reference, check_stop)
    )


def psnr_db(one: Pixels, other: Pixels, check_stop: Callable[[], None] = lambda: None) -> float:
    """Peak signal-to-noise ratio of two pictures, `uint8 [height, width, 3]`, in decibels.

    Returns:
        10 log10(255^2 / mean squared error), 0 to `MOST_DB`, which stands for equal pictures.
    """
    error = 0
    rows = _rows_at_once(one)
    for top in range(0, len(one), rows):
        differences = one[top : top + rows].astype(np.int32) - other[top : top + rows]
        error += int(np.square(differences).sum(dtype=np.int64))
        check_stop()
    if not error:
        return MOST_DB
    return min(max(10 * math.log10(_LARGEST**2 * one.size / error), 0.0), MOST_DB)


def ssim(
    one: Pixels, other: Pixels, check_stop: Callable[[], None] = lambda: None
) -> float | None:
    """Mean structural similarity of two pictures, `uint8 [height, width, 3]`, from -1 to 1.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity" (2004), equation 13, at every place where the whole window lies
    inside, and the mean over places and channels. The window is a Gaussian of 11x11 pixels and
    standard deviation 1.5; variances are those of what it sees, not estimates of a larger
    whole's.

    Returns:
        1 for equal pictures; None where an edge is shorter than the window.
    """
    height, width = map(int, one.shape[:2])
    if min(height, width) < WINDOW:
        return None
    total = 0.0
    rows = _rows_at_once(one)
    places = height - 2 * _REACH
    for top in range(0, places, rows):
        seen = slice(top, min(top + rows, places) + 2 * _REACH)
        total += float(_similarities(one[seen], other[seen]).sum())
        check_stop()
    mean = total / (places * (width - 2 * _REACH) * int(one.shape[2]))
    return min(max(mean, -1.0), 1.0)


def _similarities(one: Pixels, other: Pixels) -> npt.NDArray[np.float64]:
    """At every place of each channel where the window lies inside."""
    x, y = one.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = _seen(x), _seen(y)
    of_means, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    # Of the variances only the sum is needed.
    variances = _seen(x * x + y * y) - squares
    covariance = _seen(x * y) - of_means
    found: npt.NDArray[np.float64] = (
        (2 * of_means + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
    )
    return found


def _seen(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means of `[height, width, channels]` through the window, where it lies inside."""
    from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]  # slow to import

    means: npt.NDArray[np.float64] = gaussian_filter(
        values, _SIGMA, radius=_REACH, axes=(0, 1)
    )[_REACH:-_REACH, _REACH:-_REACH]
    return means


def _rows_at_once(pixels: Pixels) -> int:
    """So many rows that a handful of copies in floating point take little memory."""
    return max(1, _PIXELS_AT_ONCE // int(pixels.shape[1]))
