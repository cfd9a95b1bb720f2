"""Faces found in a picture, by MediaPipe's BlazeFace for full range.

It sees the whole picture at once. Looking at parts of it as well finds smaller faces, and twice
as many that are none; so does the network for short range beside it (measured on photographs
without people).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domains.picture.backends.carried.network import Numbers, Pixels, carried

Places = NDArray[np.float64]

# Boxes that share more than this of what both cover are one face.
_ONE_FACE = 0.3
_POINTS = 6
# The network gives one box for each place of a grid.
_GRID = 48


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        confidence: How surely it is one, 0 to 1.
        box: Left, top, right and bottom in pixels; it may reach beyond the picture.
        points: float64 `[6, 2]`: x and y in pixels of the eye that is on the picture's left,
            the one on its right, the tip of the nose, the middle of the mouth, and the ears
            on the left and on the right.
    """

    confidence: float
    box: tuple[float, float, float, float]
    points: Places


def find_faces(pixels: Pixels, least_confidence: float) -> tuple[Face, ...]:
    """The faces of a picture, the surest first.

    The network sees the picture with 192 pixels along its longer edge: faces from about a
    twentieth to three quarters of that edge are found.

    Args:
        pixels: uint8 `[height, width, 3]`.
        least_confidence: 0 to 1; less sure ones are left out.
    """
    return tuple(map(_face, _merged(_found(pixels, least_confidence))))


def _found(pixels: Pixels, least: float) -> Places:
    """Each row: confidence, left, top, right, bottom, and x and y of the six points."""
    network = carried("faces")
    picture, scale, left, top = _boxed(pixels, network.edge)
    told, sureness = network.run(picture)
    # Beyond 80 the exponential leaves float32, and nothing is surer than sure.
    confidence = 1 / (1 + np.exp(-np.clip(sureness[:, 0].astype(np.float64), -80, 80)))
    sure = confidence >= least
    places = told[sure].reshape(-1, 2 + _POINTS, 2).astype(np.float64)
    anchors = _anchors(network.edge)[sure]
    middle, size = places[:, 0] + anchors, places[:, 1]
    points = places[:, 2:] + anchors[:, None]
    corners = np.stack((middle - size / 2, middle + size / 2), 1)
    moved = (np.concatenate((corners, points), 1) - (left, top)) / scale
    return np.column_stack((confidence[sure], moved.reshape(-1, 2 * (2 + _POINTS))))


@cache
def _anchors(edge: int) -> Places:
    """The middles of what the rows are about, in pixels of what the network takes."""
    along = (np.arange(_GRID) + 0.5) * (edge / _GRID)
    across, down = np.meshgrid(along, along)
    return np.stack((across, down), -1).reshape(-1, 2)


def _boxed(pixels: Pixels, edge: int) -> tuple[Numbers, float, int, int]:
    """The whole picture in the middle of a black square, -1 to 1; its scale and corner."""
    height, width = pixels.shape[:2]
    scale = edge / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (edge - size[0]) // 2, (edge - size[1]) // 2
    square = np.zeros((edge, edge, 3), np.float32)
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    square[top : top + size[1], left : left + size[0]] = np.asarray(small)
    return square / np.float32(127.5) - 1, scale, left, top


def _merged(found: Places) -> Iterator[Places]:
    """Each face once: boxes that are one face are averaged, weighed by confidence."""
    rest = found[np.argsort(-found[:, 0], kind="stable")]
    while len(rest):
        same = _overlap(rest[0], rest) > _ONE_FACE
        same[0] = True  # a box of no size does not even overlap itself
        group, rest = rest[same], rest[~same]
        merged = np.average(group, 0, group[:, 0])
        merged[0] = group[0, 0]
        yield merged


def _overlap(one: Places, others: Places) -> Places:
    """What the box of one shares with each other's, of what both cover."""
    least = np.maximum(one[1:3], others[:, 1:3])
    most = np.minimum(one[3:5], others[:, 3:5])
    shared = np.prod(np.clip(most - least, 0, None), 1)
    covered = np.prod(one[3:5] - one[1:3]) + np.prod(others[:, 3:5] - others[:, 1:3], 1)
    shares: Places = shared / np.maximum(covered - shared, np.finfo(np.float64).tiny)
    return shares


def _face(row: Places) -> Face:
    left, top, right, bottom = map(float, row[1:5])
    return Face(float(row[0]), (left, top, right, bottom), row[5:].reshape(_POINTS, 2))
