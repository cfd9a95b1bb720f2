"""Prepared pictures on their way into a chain."""

from __future__ import annotations

import numpy as np

from domains.chain.backends.canvas import Canvas
from domains.picture.backends.prepared import read_pixels
from domains.picture.types import PreparedPicture


def read_canvas(picture: PreparedPicture) -> Canvas:
    """The pixels of a prepared picture that is not grey.

    Raises:
        Unavailable: STORAGE_UNAVAILABLE, where the file is not as it was.
    """
    whole = read_pixels(picture)
    if not picture.alpha:
        return Canvas(whole)
    colours, alpha = whole[..., :3], whole[..., 3]
    return Canvas(np.ascontiguousarray(colours), np.ascontiguousarray(alpha))
