"""Examples encoded ahead of the steps that use them.

Encoding a picture costs more than a step of these small networks on it. Each example is
therefore used several times, every time with other noise, before it is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.train.parts.base import BaseModel
from demo.train.parts.latents import encode
from demo.train.parts.text import tokens

ENCODED_AT_ONCE = 128


@dataclass(frozen=True)
class Examples:
    """latents: float32 [N, 4, 32, 32], scaled. tokens: int64 [N, 77]. Both on the device."""

    latents: Tensor
    tokens: Tensor


class ExamplePool:
    """Encoded pictures and their prompts' tokens, drawn at random.

    `draw(count)` gives new pixels float32 [count, 3, 256, 256] in [-1, 1] and their prompts.
    """

    def __init__(
        self,
        draw: Callable[[int], tuple[Tensor, list[str]]],
        base: BaseModel,
        size: int,
        generator: torch.Generator,
    ) -> None:
        self._draw, self._base, self._generator = draw, base, generator
        at_once = min(ENCODED_AT_ONCE, size)
        parts = [self._encoded(at_once) for _ in range(math.ceil(size / at_once))]
        self._latents = torch.cat([part.latents for part in parts])
        self._tokens = torch.cat([part.tokens for part in parts])
        self._oldest = 0

    def __len__(self) -> int:
        return len(self._latents)

    def take(self, count: int) -> Examples:
        """Draws `count` examples; one may be drawn more than once."""
        device = self._latents.device
        rows = torch.randint(len(self), (count,), device=device, generator=self._generator)
        return Examples(self._latents[rows], self._tokens[rows])

    def renew(self, count: int) -> None:
        """Replaces the `count` oldest examples, at most all, by new ones."""
        new = self._encoded(min(count, len(self)))
        rows = torch.arange(len(new.latents), device=new.latents.device)
        rows = (rows + self._oldest) % len(self)
        self._latents[rows] = new.latents
        self._tokens[rows] = new.tokens
        self._oldest = (self._oldest + len(rows)) % len(self)

    def _encoded(self, count: int) -> Examples:
        # In full precision: rounding in the encoder would be noise in every target.
        with torch.autocast(self._generator.device.type, enabled=False):
            pixels, prompts = self._draw(count)
            latents = encode(self._base.vae, pixels)
        return Examples(latents, tokens(self._base.tokenizer, prompts).to(pixels.device))
