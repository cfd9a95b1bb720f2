"""GFPGAN's network in its clean form: what its file holds is told by
`domains/model/backends/restorers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

_SLOPE = 0.2
# What keeps a style's scale from being divided by nothing.
_LEAST = 1e-8


class _Block(nn.Module):
    """Two convolutions, and the size changed between them."""

    def __init__(self, taken: int, given: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(taken, taken, 3, padding=1)
        self.conv2 = nn.Conv2d(taken, given, 3, padding=1)
        self.skip = nn.Conv2d(taken, given, 1, bias=False)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        seen = _bent(self.conv2(_resized(_bent(self.conv1(given)), self.factor)))
        skipped: torch.Tensor = self.skip(_resized(given, self.factor))
        return seen + skipped


class _Modulated(nn.Module):
    """A convolution whose channels a style scales."""

    def __init__(self, taken: int, given: int, edge: int, style: int, *, even: bool) -> None:
        super().__init__()
        self.even = even
        self.modulation = nn.Linear(style, taken)
        self.weight = nn.Parameter(torch.empty(1, given, taken, edge, edge))

    def forward(self, given: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        scaled = self.weight * self.modulation(style)[:, None, :, None, None]
        if self.even:
            scaled = scaled * torch.rsqrt(scaled.square().sum((2, 3, 4), True) + _LEAST)
        # Each picture has weights of its own: as groups of one convolution.
        count, _, *size = given.shape
        weight = scaled.flatten(0, 1)
        made = functional.conv2d(
            given.reshape(1, -1, *size), weight, padding=weight.shape[-1] // 2, groups=count
        )
        return made.view(count, -1, *size)


class _Styled(nn.Module):
    """A step of drawing: twice as large where asked, in a style, with noise."""

    def __init__(self, taken: int, given: int, style: int, *, larger: bool) -> None:
        super().__init__()
        self.larger = larger
        self.modulated_conv = _Modulated(taken, given, 3, style, even=True)
        self.weight = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(1, given, 1, 1))

    def forward(
        self, given: torch.Tensor, style: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        taken = _resized(given, 2) if self.larger else given
        drawn = self.modulated_conv(taken, style) * math.sqrt(2)
        return _bent(drawn + self.weight * noise + self.bias)


class _Colours(nn.Module):
    """What is drawn so far as colours, on top of those of half the size."""

    def __init__(self, taken: int, style: int) -> None:
        super().__init__()
        self.modulated_conv = _Modulated(taken, 3, 1, style, even=False)
        self.bias = nn.Parameter(torch.empty(1, 3, 1, 1))

    def forward(
        self, given: torch.Tensor, style: torch.Tensor, before: torch.Tensor | None = None
    ) -> torch.Tensor:
        colours: torch.Tensor = self.modulated_conv(given, style) + self.bias
        return colours if before is None else colours + _resized(before, 2)


class _Drawing(nn.Module):
    """The StyleGAN 2 in it."""

    def __init__(self, widths: Sequence[int], style: int, mapping: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Identity()]
        for _ in range(mapping):
            layers += [nn.Linear(style, style), nn.LeakyReLU(_SLOPE)]
        self.style_mlp = nn.Sequential(*layers)
        self.constant_input = nn.Module()
        self.constant_input.weight = nn.Parameter(torch.empty(1, widths[0], 4, 4))
        self.style_conv1 = _Styled(widths[0], widths[0], style, larger=False)
        self.to_rgb1 = _Colours(widths[0], style)
        self.style_convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        self.noises = nn.Module()
        self.noises.register_buffer("noise0", torch.empty(1, 1, 4, 4))
        for at, (taken, given) in enumerate(pairwise(widths)):
            self.style_convs.append(_Styled(taken, given, style, larger=True))
            self.style_convs.append(_Styled(given, given, style, larger=False))
            self.to_rgbs.append(_Colours(given, style))
            for each in (2 * at + 1, 2 * at + 2):
                noise = torch.empty(1, 1, 8 << at, 8 << at)
                self.noises.register_buffer(f"noise{each}", noise)

    def forward(
        self, styles: torch.Tensor, scales: list[torch.Tensor], shifts: list[torch.Tensor]
    ) -> torch.Tensor:
        noises = [self.noises.get_buffer(f"noise{at}") for at in range(2 * len(scales) + 1)]
        drawn = self.constant_input.get_parameter("weight").expand(len(styles), -1, -1, -1)
        drawn = self.style_conv1(drawn, styles[:, 0], noises[0])
        colours: torch.Tensor = self.to_rgb1(drawn, styles[:, 1])
        for at, (scale, shift) in enumerate(zip(scales, shifts, strict=True)):
            style = 2 * at + 1
            drawn = self.style_convs[2 * at](drawn, styles[:, style], noises[style])
            free, bound = drawn.chunk(2, 1)
            drawn = torch.cat((free, bound * scale + shift), 1)
            drawn = self.style_convs[2 * at + 1](drawn, styles[:, style + 1], noises[style + 1])
            colours = self.to_rgbs[at](drawn, styles[:, style + 2], colours)
        return colours


class Gfpgan(nn.Module):
    """A network that redraws a face of 512x512 pixels.

    The noise that it draws with is the file's own, so a face always comes out the same.

    Args:
        widths: Channels of what draws, at 4, 8, ... 512 pixels; even numbers.
        style: Numbers of a style.
        mapping: Layers that are in the file and not used.
    """

    def __init__(self, *, widths: Sequence[int], style: int, mapping: int) -> None:
        super().__init__()
        seen = [width // 2 for width in widths]
        count = len(widths) - 1
        self.style = style
        self.conv_body_first = nn.Conv2d(3, seen[-1], 1)
        down, up = seen[::-1], seen
        self.conv_body_down = nn.ModuleList(
            _Block(down[at], down[at + 1], 0.5) for at in range(count)
        )
        self.final_conv = nn.Conv2d(seen[0], seen[0], 3, padding=1)
        self.conv_body_up = nn.ModuleList(_Block(up[at], up[at + 1], 2) for at in range(count))
        self.final_linear = nn.Linear(seen[0] * 16, 2 * len(widths) * style)
        self.stylegan_decoder = _Drawing(widths, style, mapping)
        # What training looked at, in the file and not used.
        self.toRGB = nn.ModuleList(nn.Conv2d(each, 3, 1) for each in seen[1:])
        self.condition_scale = nn.ModuleList(map(_condition, seen[1:]))
        self.condition_shift = nn.ModuleList(map(_condition, seen[1:]))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Redraw faces.

        Args:
            faces: Floating point `[batch, 3, 512, 512]`, 0 to 1, aligned.

        Returns:
            The same shape, about 0 to 1, not clipped.
        """
        seen = _bent(self.conv_body_first(faces * 2 - 1))
        kept: list[torch.Tensor] = []
        for layer in self.conv_body_down:
            seen = layer(seen)
            kept.append(seen)
        seen = _bent(self.final_conv(seen))
        styles = self.final_linear(seen.flatten(1)).view(len(faces), -1, self.style)
        scales: list[torch.Tensor] = []
        shifts: list[torch.Tensor] = []
        for at, layer in enumerate(self.conv_body_up):
            seen = layer(seen + kept.pop())
            scales.append(self.condition_scale[at](seen))
            shifts.append(self.condition_shift[at](seen))
        drawn: torch.Tensor = self.stylegan_decoder(styles, scales, shifts)
        return drawn / 2 + 0.5


def _condition(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(width, width, 3, padding=1),
    )


def _bent(numbers: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(numbers, _SLOPE)


def _resized(numbers: torch.Tensor, factor: float) -> torch.Tensor:
    return functional.interpolate(
        numbers, scale_factor=factor, mode="bilinear", align_corners=False
    )
