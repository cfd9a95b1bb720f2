"""Pictures as CLIP's image encoders take them.

The operations and their order are those of transformers' `CLIPImageProcessorPil`, whatever
else is installed.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from domains.inference.backends.images import Pixels

# OPENAI_CLIP_MEAN and OPENAI_CLIP_STD of transformers, red, green, blue.
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_SPREAD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def to_clip(pixels: Pixels, edge: int) -> torch.Tensor:
    """A picture's middle square, as large as an encoder takes it.

    Args:
        pixels: uint8 `[height, width, 3]`.
        edge: Of the square, in pixels.

    Returns:
        float32 `[1, 3, edge, edge]` on the CPU, about -2 to 2.
    """
    height, width = pixels.shape[:2]
    short, long = sorted((height, width))
    longer = int(edge * long / short)
    size = (edge, longer) if width <= height else (longer, edge)
    fitted = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    top, left = (fitted.shape[0] - edge) // 2, (fitted.shape[1] - edge) // 2
    square = fitted[top : top + edge, left : left + edge]
    levels = (square.astype(np.float64) * (1 / 255)).astype(np.float32)
    normal = cast(npt.NDArray[np.float32], (levels - _MEAN) / _SPREAD)
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))[None]
