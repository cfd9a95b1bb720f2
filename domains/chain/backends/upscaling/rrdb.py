"""The RRDB network: what its file holds is told by `domains/model/backends/upscalers`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_SLOPE = 0.2
# What a block adds to what it was given.
_SHARE = 0.2


class _Dense(nn.Module):
    """Five convolutions, each of which sees what all before it gave."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        seen = given
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat((seen, _bent(layer(seen))), 1)
        added: torch.Tensor = self.conv5(seen)
        return added * _SHARE + given


class _Block(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = _Dense(features, growth)
        self.rdb2 = _Dense(features, growth)
        self.rdb3 = _Dense(features, growth)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.rdb3(self.rdb2(self.rdb1(given)))
        return added * _SHARE + given


class Rrdb(nn.Module):
    """An upscaler of many blocks on the small picture, then enlargements by two.

    Args:
        taken: Channels of what the first layer takes: those of pictures, times `folded`
            squared.
        channels: Of pictures.
        features: Channels between blocks.
        growth: Channels that a layer of a block adds.
        blocks: How many.
        enlargements: How often an edge is doubled.
        folded: Edge of the squares of pixels that are folded into channels first.
    """

    def __init__(
        self,
        *,
        taken: int,
        channels: int,
        features: int,
        growth: int,
        blocks: int,
        enlargements: int,
        folded: int,
    ) -> None:
        super().__init__()
        self.folded, self.enlargements = folded, enlargements
        self.conv_first = nn.Conv2d(taken, features, 3, padding=1)
        self.body = nn.Sequential(*(_Block(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        for number in range(1, enlargements + 1):
            self.add_module(f"conv_up{number}", nn.Conv2d(features, features, 3, padding=1))
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, channels, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Enlarge pictures.

        Args:
            pixels: Floating point `[batch, channels, height, width]`, 0 to 1; edges are
                multiples of `folded`.

        Returns:
            `[batch, channels, height * factor, width * factor]`, about 0 to 1, not clipped;
            the factor is 2 to the power of `enlargements` over `folded`.
        """
        if self.folded > 1:
            pixels = functional.pixel_unshuffle(pixels, self.folded)
        first = self.conv_first(pixels)
        seen = first + self.conv_body(self.body(first))
        del first
        for number in range(1, self.enlargements + 1):
            seen = functional.interpolate(seen, scale_factor=2, mode="nearest")
            seen = _bent(self.get_submodule(f"conv_up{number}")(seen))
        last: torch.Tensor = self.conv_last(_bent(self.conv_hr(seen)))
        return last


def _bent(numbers: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(numbers, _SLOPE, inplace=True)
