"""People told from what is behind them, by MediaPipe's selfie segmentation."""

from __future__ import annotations

import numpy as np
from PIL import Image

from domains.picture.backends.carried.network import Pixels, carried


def people_mask(pixels: Pixels) -> Pixels:
    """How surely each pixel belongs to a person.

    The network was made for people within two metres of a camera, and knows nothing else: an
    animal or a thing counts as background. It sees the picture as a square of 256 pixels; its
    answer is enlarged bicubically, so outlines are as fine as a 256th of the picture.

    Args:
        pixels: uint8 `[height, width, 3]`.

    Returns:
        uint8 `[height, width]`: 255 for a person, 0 for none.
    """
    network = carried("people")
    edges = (network.edge, network.edge)
    small = Image.fromarray(pixels).resize(edges, Image.Resampling.BILINEAR)
    (sure,) = network.run(np.asarray(small, np.float32) / np.float32(255))
    levels = Image.fromarray(np.rint(sure[:, :, 0] * 255).astype(np.uint8))
    height, width = pixels.shape[:2]
    return np.asarray(levels.resize((width, height), Image.Resampling.BICUBIC))
