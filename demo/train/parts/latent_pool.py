"""Composites encoded ahead, in a pool that grows while training runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.train.parts.compositing import Compositor
from demo.train.parts.latents import Vae, encode
from demo.train.parts.text import tokens

DRAWN_AT_ONCE = 128


@dataclass(frozen=True)
class Sample:
    """latents: float32 [B, 4, h, w]; ids: int64 [B, 77]; score: float32 [B], see LatentPool."""

    latents: Tensor
    ids: Tensor
    score: Tensor


class LatentPool:
    """Latents and token ids of composites, on the device; grows to `capacity`, then renews.

    `alter` may change the pixels [B, 3, H, W] of new pictures and says how good each now is,
    float32 [B]; without it the score is 0. Each picture is used several times, with other
    noise. `generator` lies on the device.
    """

    def __init__(
        self,
        compositor: Compositor,
        vae: Vae,
        tokenizer: object,
        *,
        capacity: int,
        start: int,
        generator: torch.Generator,
        alter: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self._compositor, self._vae, self._tokenizer = compositor, vae, tokenizer
        self._generator, self._alter = generator, alter
        self._capacity = capacity
        self._next = 0
        self._filled = 0
        first = self._drawn(min(start, DRAWN_AT_ONCE))
        self._latents, self._ids, self._score = (
            torch.empty(capacity, *part.shape[1:], dtype=kind, device=part.device)
            for part, kind in (
                (first.latents, torch.float16),
                (first.ids, torch.int32),
                (first.score, torch.float32),
            )
        )
        self._put(first)
        while self._filled < start:
            self.renew(min(start - self._filled, DRAWN_AT_ONCE))

    def __len__(self) -> int:
        return self._filled

    def take(self, count: int) -> Sample:
        """`count` pictures at random, each possibly more than once."""
        rows = torch.randint(
            self._filled, (count,), device=self._latents.device, generator=self._generator
        )
        return Sample(self._latents[rows].float(), self._ids[rows].long(), self._score[rows])

    def renew(self, count: int) -> None:
        """Draws `count` new pictures, at most `capacity`; they replace the oldest."""
        self._put(self._drawn(count))

    def _drawn(self, count: int) -> Sample:
        # In full precision: rounding in the encoder would be noise in every target.
        with torch.autocast(self._generator.device.type, enabled=False):
            composites = self._compositor.draw(count)
            pixels = composites.pixels
            score = torch.zeros(count, device=pixels.device)
            if self._alter is not None:
                pixels, score = self._alter(pixels)
            latents = encode(self._vae, pixels)
        ids = tokens(self._tokenizer, composites.prompts).to(pixels.device)
        return Sample(latents, ids, score)

    def _put(self, sample: Sample) -> None:
        count = len(sample.latents)
        rows = (torch.arange(count) + self._next) % self._capacity
        rows = rows.to(self._latents.device)
        self._latents[rows] = sample.latents.half()
        self._ids[rows] = sample.ids.int()
        self._score[rows] = sample.score
        self._next = (self._next + count) % self._capacity
        self._filled = min(self._filled + count, self._capacity)
