"""The formulas of control pictures, one pixel after another: what the fast ones are held to."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Places = set[tuple[int, int]]
_SOBEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))


def canny(pixels: Pixels, low: float, high: float) -> Places:
    """OpenCV's `Canny(image, low, high)`, as its source code walks over a picture."""
    height, width, channels = pixels.shape
    gradient = {}
    for row in range(height):
        for column in range(width):
            found = []
            for channel in range(channels):
                x = y = 0
                for down in range(3):
                    for right in range(3):
                        value = int(
                            pixels[
                                min(max(row + down - 1, 0), height - 1),
                                min(max(column + right - 1, 0), width - 1),
                                channel,
                            ]
                        )
                        x += _SOBEL[down][right] * value
                        y += _SOBEL[right][down] * value
                found.append((abs(x) + abs(y), x, y))
            best = found[0]
            for other in found[1:]:
                if other[0] > best[0]:
                    best = other
            gradient[row, column] = best
    strength = {place: value[0] for place, value in gradient.items()}
    ridges = {
        place
        for place, (own, x, y) in gradient.items()
        if own > low and _greatest(place, own, x, y, strength)
    }
    return joined({place for place in ridges if strength[place] > high}, ridges)


def _greatest(
    place: tuple[int, int], own: int, x: int, y: int, strength: dict[tuple[int, int], int]
) -> bool:
    row, column = place

    def at(down: int, right: int) -> int:
        return strength.get((row + down, column + right), 0)

    rise, level = abs(y) << 15, abs(x) * 13573
    if rise < level:
        return own > at(0, -1) and own >= at(0, 1)
    if rise > level + (abs(x) << 16):
        return own > at(-1, 0) and own >= at(1, 0)
    way = -1 if (x ^ y) < 0 else 1
    return own > at(-1, -way) and own > at(1, way)


def joined(seeds: Places, allowed: Places) -> Places:
    """Growing from the seeds, one place at a time."""
    found, waiting = set(seeds), deque(seeds)
    while waiting:
        row, column = waiting.popleft()
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                place = row + down, column + right
                if place in allowed and place not in found:
                    found.add(place)
                    waiting.append(place)
    return found


def blurred(plane: npt.NDArray[np.floating], deviation: float) -> npt.NDArray[np.float64]:
    """The sum over a square of pixels, each weighed by its distance."""
    height, width = plane.shape
    reach = max(1, math.ceil(4 * deviation))
    weights = [math.exp(-(k**2) / (2 * deviation**2)) for k in range(-reach, reach + 1)]
    whole = sum(weights) ** 2
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            total = 0.0
            for down, above in enumerate(weights):
                for right, beside in enumerate(weights):
                    value = plane[
                        min(max(row + down - reach, 0), height - 1),
                        min(max(column + right - reach, 0), width - 1),
                    ]
                    total += above * beside * float(value)
            result[row, column] = total / whole
    return result


def soft_edges(pixels: Pixels, radius: float) -> npt.NDArray[np.float64]:
    """Of the plain formula, before rounding."""
    step = blurred(np.repeat([[0.0, 1.0]], 20, axis=1), radius)[0]
    gain = 1 / max((step[k + 1] - step[k - 1]) / 2 for k in range(1, 39))
    steepest = np.zeros(pixels.shape[:2])
    for channel in range(3):
        plane = blurred(pixels[:, :, channel].astype(float), radius)
        across, down = _central(plane), _central(plane.T).T
        steepest = np.maximum(steepest, np.sqrt(across**2 + down**2))
    return np.asarray(255 * np.sqrt(np.minimum(gain * steepest / 255, 1)))


def _central(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    last = plane.shape[1] - 1
    columns = [
        (plane[:, min(k + 1, last)] - plane[:, max(k - 1, 0)]) / 2 for k in range(last + 1)
    ]
    return np.stack(columns, axis=1)


def line_art(pixels: Pixels, threshold: float) -> npt.NDArray[np.float64]:
    """Of the plain formula, before rounding."""
    planes = [pixels[:, :, channel].astype(float) for channel in range(3)]
    darker = np.min([blurred(plane, 6.0) - plane for plane in planes], axis=0)
    lines = sorted(value for value in darker.ravel() if value >= threshold)
    if not lines:
        return np.zeros(darker.shape)
    middle = (lines[(len(lines) - 1) // 2] + lines[len(lines) // 2]) / 2
    bright = [
        min(127 * value / middle, 255) if value >= threshold else 0 for value in darker.flat
    ]
    return np.reshape(bright, darker.shape)


def widened(edges: Places, stroke: int, size: Sequence[int]) -> Places:
    """Each edge as a disc of that diameter."""
    middle = (stroke - 1) / 2
    disc = [
        (down, right)
        for down in range(stroke)
        for right in range(stroke)
        if (down - middle) ** 2 + (right - middle) ** 2 <= (stroke / 2) ** 2
    ]
    before = stroke // 2
    return {
        (row + down - before, column + right - before)
        for row, column in edges
        for down, right in disc
        if 0 <= row + down - before < size[0] and 0 <= column + right - before < size[1]
    }
