"""Draws training pictures in batches on the device: emoji on a plain background, with a prompt.

Three layouts, as the base model learnt them: one large emoji, one small ("a small robot ..."),
and two side by side ("a robot and a pizza ..."). A prompt that names no colour means white.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from demo.train.parts.emoji import COLOURS, SIDE, WHITE, EmojiSet, is_held_out

LEVELS = (256, 128, 64)
LARGE, SMALL, PAIR = range(3)
# Side of the emoji's picture as a fraction of the whole, lowest and highest, by layout.
SCALES = torch.tensor([[0.72, 0.95], [0.32, 0.46], [0.42, 0.50]])
SHARES = torch.tensor([0.50, 0.12, 0.38])
UNNAMED = 0.2
BARE = 0.3


@dataclass(frozen=True)
class Composites:
    """A batch of pictures and what they show.

    pixels: float32 [B, 3, 256, 256] in [-1, 1] on the compositor's device.
    emoji: int64 [B, 2] on the CPU, positions in the emoji set; -1 where there is no second one.
    colours: int64 [B] on the CPU, positions in COLOURS.
    """

    pixels: Tensor
    prompts: list[str]
    emoji: Tensor
    colours: Tensor


class Compositor:
    """An endless, seeded source of composites.

    Layouts are drawn on the CPU, so a seed gives the same pictures on any device. With
    `held_out`, every emoji stands on a colour that training never combines it with; without,
    none does. Raises ValueError when the emoji set allows no such picture.
    """

    def __init__(
        self,
        emoji: EmojiSet,
        *,
        device: torch.device | str,
        seed: int = 0,
        held_out: bool = False,
    ) -> None:
        self._names = emoji.names
        self._device = torch.device(device)
        self._random = torch.Generator().manual_seed(seed)
        self._table, self._counts = _allowed(len(emoji), held_out)
        self._possible = self._counts.nonzero()[:, 0]
        if len(self._possible) == 0:
            raise ValueError(f"emoji: {len(emoji)} emoji allow no picture, held_out={held_out}")
        self._pyramid = _pyramid(emoji.pictures, self._device)
        self._palette = torch.tensor(list(COLOURS.values()), device=self._device) / 255.0

    @torch.no_grad()
    def draw(self, count: int, *, single: bool = False) -> Composites:
        """The next `count` composites; `single` asks for one large centred emoji each."""
        if single:
            layout = torch.full((count,), LARGE)
        else:
            layout = torch.multinomial(SHARES, count, replacement=True, generator=self._random)
        named = self._uniform(count) >= UNNAMED
        colours = self._possible[self._below(torch.full((count,), len(self._possible)))]
        if self._counts[WHITE] > 0:
            colours = torch.where(named, colours, WHITE)
        else:
            named = torch.ones_like(named)
        first, second = (
            self._table[colours, self._below(self._counts[colours])] for _ in range(2)
        )
        emoji = torch.stack([first, torch.where(layout == PAIR, second, -1)], dim=1)
        pixels = self._paint(emoji, colours, layout, centred=single)
        return Composites(pixels, self._prompts(emoji, colours, layout, named), emoji, colours)

    def _paint(
        self, emoji: Tensor, colours: Tensor, layout: Tensor, *, centred: bool
    ) -> Tensor:
        count = len(emoji)
        picture = self._palette[colours.to(self._device)][:, :, None, None]
        picture = picture.expand(count, 3, SIDE, SIDE).clone()
        low, high = SCALES[layout].unbind(1)
        pair = layout == PAIR
        free = torch.where(pair, 0.03, torch.where(layout == SMALL, 0.22, 0.02))
        for slot in range(2):
            scale = low + (high - low) * self._uniform(count)
            shift = (2 * self._uniform(2 * count).reshape(count, 2) - 1) * free[:, None]
            if centred:
                shift = torch.zeros_like(shift)
            centre = torch.where(pair, 0.25 + 0.5 * slot, 0.5)[:, None] * torch.tensor(
                [1.0, 0.0]
            )
            centre = centre + torch.tensor([0.0, 0.5]) + shift
            self._place(picture, emoji[:, slot], scale, centre)
        return picture * 2 - 1

    def _place(self, picture: Tensor, emoji: Tensor, scale: Tensor, centre: Tensor) -> None:
        """Lays emoji over `picture` in place; scale and centre are fractions of its side."""
        # The coarsest picture that is still at least as large as its place, so that bilinear
        # sampling never skips a pixel.
        level = (1 / scale).log2().floor().clamp(0, len(LEVELS) - 1).long()
        for index, source in enumerate(self._pyramid):
            chosen = ((emoji >= 0) & (level == index)).nonzero()[:, 0]
            if len(chosen) == 0:
                continue
            rows = chosen.to(self._device)
            layer = source[emoji[chosen].to(self._device)].float() / 255.0
            grid = _grid(scale[chosen].to(self._device), centre[chosen].to(self._device))
            # Autocast would round the grid to bfloat16, which moves pixels.
            with torch.autocast(self._device.type, enabled=False):
                layer = functional.grid_sample(layer, grid, align_corners=False)
            picture[rows] = layer[:, :3] + picture[rows] * (1 - layer[:, 3:])

    def _prompts(
        self, emoji: Tensor, colours: Tensor, layout: Tensor, named: Tensor
    ) -> list[str]:
        words = list(COLOURS)
        bare = (self._uniform(len(emoji)) < BARE).tolist()
        prompts = []
        for row, (first, second) in enumerate(emoji.tolist()):
            name = self._names[first]
            small = "small " if layout[row] == SMALL else ""
            prompt = (
                f"{small}{name}" if bare[row] else f"{_article(small or name)} {small}{name}"
            )
            if second >= 0:
                other = self._names[second]
                prompt += f" and {_article(other)} {other}"
            if named[row]:
                prompt += (
                    f" on {_article(words[colours[row]])} {words[colours[row]]} background"
                )
            prompts.append(prompt)
        return prompts

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._random)

    def _below(self, limits: Tensor) -> Tensor:
        """Whole numbers, each from 0 to below its limit."""
        return torch.minimum((self._uniform(len(limits)) * limits).long(), limits - 1)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _grid(scale: Tensor, centre: Tensor) -> Tensor:
    """Where each output pixel lies in the emoji: float32 [B, 256, 256, 2] in [-1, 1]."""
    steps = (torch.arange(SIDE, device=scale.device) + 0.5) / SIDE
    across, down = (
        2 * (steps[None] - centre[:, axis, None]) / scale[:, None] for axis in range(2)
    )
    return torch.stack(
        [
            across[:, None, :].expand(-1, SIDE, SIDE),
            down[:, :, None].expand(-1, SIDE, SIDE),
        ],
        dim=-1,
    )


def _pyramid(pictures: Tensor, device: torch.device) -> list[Tensor]:
    """Premultiplied uint8 [N, 4, side, side] for each of LEVELS; halved by averaging."""
    levels = []
    for side in LEVELS:
        parts = []
        for chunk in torch.split(pictures, 64):
            layer = chunk.to(device).float()
            layer[:, :3] *= layer[:, 3:] / 255.0
            layer = functional.avg_pool2d(layer, SIDE // side)
            parts.append(layer.round().to(torch.uint8))
        levels.append(torch.cat(parts))
    return levels


def _allowed(count: int, held_out: bool) -> tuple[Tensor, Tensor]:
    """The emoji each colour may carry, int64 [16, N] padded with -1, and their number."""
    table = torch.full((len(COLOURS), count), -1)
    counts = torch.zeros(len(COLOURS), dtype=torch.int64)
    emoji = torch.arange(count)
    for colour in range(len(COLOURS)):
        held = is_held_out(emoji, torch.full_like(emoji, colour))
        fitting = emoji[held if held_out else ~held]
        table[colour, : len(fitting)] = fitting
        counts[colour] = len(fitting)
    return table, counts
