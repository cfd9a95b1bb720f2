"""Examples made ahead of the steps that use them.

Encoding a picture costs more than a step of these small networks on it. Each example is
therefore used several times, every time with other noise, before it is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from demo.train.parts.base import BaseModel
from demo.train.parts.latents import encode
from demo.train.parts.text import tokens

MADE_AT_ONCE = 128

# A dataclass whose fields are tensors with one row for each example.
Rows = TypeVar("Rows", bound=Any)


class ExamplePool(Generic[Rows]):
    """Examples on the device, drawn at random; the oldest are replaced.

    Args:
        make: Makes so many new examples. Runs without gradients and in full precision:
            rounding in an encoder would be noise in every target.
        size: How many examples are kept, rounded up to whole calls of `make`.
        generator: Chooses what `take` gives; lies on the examples' device.
    """

    def __init__(
        self, make: Callable[[int], Rows], size: int, generator: torch.Generator
    ) -> None:
        self._make, self._generator = make, generator
        self._oldest = 0
        at_once = min(MADE_AT_ONCE, size)
        parts = [self._made(at_once) for _ in range(math.ceil(size / at_once))]
        self._kind = type(parts[0])
        self._columns = [torch.cat(part) for part in zip(*map(_columns, parts), strict=True)]

    def __len__(self) -> int:
        return len(self._columns[0])

    def take(self, count: int) -> Rows:
        """Draws `count` examples; one may be drawn more than once."""
        device = self._generator.device
        rows = torch.randint(len(self), (count,), device=device, generator=self._generator)
        chosen: Rows = self._kind(*(column[rows] for column in self._columns))
        return chosen

    def renew(self, count: int) -> None:
        """Replaces the `count` oldest examples, at most all, by new ones."""
        new = _columns(self._made(min(count, len(self))))
        rows = torch.arange(len(new[0]), device=self._generator.device)
        rows = (rows + self._oldest) % len(self)
        for column, values in zip(self._columns, new, strict=True):
            column[rows] = values
        self._oldest = (self._oldest + len(rows)) % len(self)

    @torch.no_grad()
    def _made(self, count: int) -> Rows:
        with torch.autocast(self._generator.device.type, enabled=False):
            return self._make(count)


@dataclass(frozen=True)
class Encoded:
    """latents: float32 [N, 4, 32, 32], scaled. tokens: int64 [N, 77]. Both on the device."""

    latents: Tensor
    tokens: Tensor


def encoded(
    base: BaseModel, draw: Callable[[int], tuple[Tensor, list[str]]]
) -> Callable[[int], Encoded]:
    """What an ExamplePool needs to hold encoded pictures and their prompts' tokens.

    `draw(count)` gives pixels float32 [count, 3, 256, 256] in [-1, 1] and their prompts.
    """

    def make(count: int) -> Encoded:
        pixels, prompts = draw(count)
        ids = tokens(base.tokenizer, prompts).to(pixels.device)
        return Encoded(encode(base.vae, pixels), ids)

    return make


def _columns(rows: Any) -> list[Tensor]:
    return [getattr(rows, field.name) for field in fields(rows)]
