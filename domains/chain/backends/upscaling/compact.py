"""The Compact network: what its file holds is told by `domains/model/backends/upscalers`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Compact(nn.Module):
    """An upscaler that works on the small picture; only its last layer widens.

    It learns what the picture lacks that is enlarged by repeating pixels.

    Args:
        channels: Of pictures.
        features: Channels of the hidden layers.
        depth: Hidden convolutions behind the first.
        factor: Enlargement of an edge.
        slopes: `features`, or 1 where all channels share one.
    """

    def __init__(
        self, *, channels: int, features: int, depth: int, factor: int, slopes: int
    ) -> None:
        super().__init__()
        self.factor = factor
        layers: list[nn.Module] = []
        for layer in range(depth + 1):
            taken = features if layer else channels
            layers += [nn.Conv2d(taken, features, 3, padding=1), nn.PReLU(slopes)]
        layers.append(nn.Conv2d(features, channels * factor**2, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Enlarge pictures.

        Args:
            pixels: Floating point `[batch, channels, height, width]`, 0 to 1.

        Returns:
            `[batch, channels, height * factor, width * factor]`, about 0 to 1, not clipped.
        """
        lacking = functional.pixel_shuffle(self.body(pixels), self.factor)
        return lacking + functional.interpolate(
            pixels, scale_factor=self.factor, mode="nearest"
        )
