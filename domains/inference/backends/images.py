"""Decoded tensors as pixels."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch

Pixels = npt.NDArray[np.uint8]


def to_pixels(image: torch.Tensor) -> Pixels:
    """Round a decoded picture to bytes on its device, then fetch it.

    Args:
        image: Finite `[1, 3, height, width]`, about -1 to 1; clipped to that.

    Returns:
        uint8 `[height, width, 3]`, red, green, blue.
    """
    scaled = (image * 0.5 + 0.5).clamp(0, 1).to(torch.float32)
    rounded = (scaled * 255).round().to(torch.uint8)[0].permute(1, 2, 0).contiguous()
    return cast(Pixels, rounded.cpu().numpy())
