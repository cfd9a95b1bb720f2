"""The Compact upscaler architecture of Real-ESRGAN, with the tensor names of its files.

A plain stack of 3x3 convolutions works on the small picture; only the last one widens to
scale x scale sub-pixels, so that the whole network costs what it costs at low resolution. It
learns what the nearest-neighbour enlargement lacks.

Programs recognise files of this kind by `body.0.weight` (a convolution) and `body.1.weight`
(a PReLU), and read every size from the shapes.

Source: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data" (2021); class SRVGGNetCompact of its reference implementation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 3
PRELU_SLOPE = 0.25


class Compact(nn.Module):
    """An upscaler of `scale` for RGB pictures.

    Args:
        scale: Enlargement of each side.
        features: Channels of the hidden layers.
        depth: Hidden convolutions.
    """

    def __init__(self, *, scale: int, features: int = 64, depth: int = 16) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(CHANNELS, features, 3, padding=1)]
        layers.append(nn.PReLU(features))
        for _ in range(depth):
            layers.append(nn.Conv2d(features, features, 3, padding=1))
            layers.append(nn.PReLU(features))
        last = nn.Conv2d(features, CHANNELS * scale**2, 3, padding=1)
        layers.append(last)
        self.body = nn.Sequential(*layers)
        # Torch's own start shrinks the signal with every layer: a plain stack this deep would
        # learn nothing for a long time. He et al., "Delving Deep into Rectifiers" (2015).
        for layer in layers[:-1]:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=PRELU_SLOPE)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        # It starts as the nearest-neighbour enlargement.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        """Enlarge pictures.

        Args:
            pixels: float [B, 3, H, W] in [0, 1].

        Returns:
            float [B, 3, scale*H, scale*W], about [0, 1], not clipped.
        """
        detail = functional.pixel_shuffle(self.body(pixels), self.scale)
        return detail + functional.interpolate(pixels, scale_factor=self.scale, mode="nearest")


def compact_from(tensors: Mapping[str, Tensor]) -> Compact:
    """Build the network that a file's tensors describe and fill it with them.

    Args:
        tensors: As a file of this architecture holds them.

    Raises:
        ValueError: The tensors are not those of a Compact upscaler for RGB pictures.
    """
    layers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("body.")})
    if len(layers) < 3 or "body.1.weight" not in tensors:
        raise ValueError("These are not the tensors of a Compact upscaler.")
    features, channels = tensors["body.0.weight"].shape[:2]
    subpixels = tensors[f"body.{layers[-1]}.weight"].shape[0]
    scale = math.isqrt(subpixels // CHANNELS)
    if channels != CHANNELS or scale**2 * CHANNELS != subpixels:
        raise ValueError("The Compact upscaler is not one for RGB pictures.")
    network = Compact(scale=scale, features=features, depth=(layers[-1] - 2) // 2)
    network.load_state_dict(dict(tensors))
    return network
