"""A drawn person, in whom the carried networks see a face and a body."""

from __future__ import annotations

import numpy as np

from domains.picture.backends.carried.network import Pixels

# Middle, half axes and colour, in shares of the picture's edge; later ones lie on top.
_OVALS = (
    ((0.5, 1.1), (0.38, 0.5), (51, 64, 102)),
    ((0.5, 0.4), (0.17, 0.22), (217, 166, 140)),
    ((0.43, 0.36), (0.03, 0.015), (26, 26, 26)),
    ((0.57, 0.36), (0.03, 0.015), (26, 26, 26)),
    ((0.5, 0.5), (0.06, 0.02), (179, 77, 77)),
)
_BACKGROUND = (89, 128, 153)


def figure(edge: int) -> Pixels:
    """A square picture of somebody, uint8 `[edge, edge, 3]`; the same each time."""
    picture = np.full((edge, edge, 3), _BACKGROUND, np.uint8)
    down, across = np.mgrid[:edge, :edge] / edge
    for (x, y), (wide, high), color in _OVALS:
        picture[((across - x) / wide) ** 2 + ((down - y) / high) ** 2 < 1] = color
    return picture
