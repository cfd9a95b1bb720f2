"""Ways to enlarge one picture, for benchmarks, and the picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from domains.chain.backends.upscaling.enlarging import enlarge
from domains.chain.backends.upscaling.tiled import Pixels
from domains.chain.backends.upscaling.upscaler import Upscaler

_WHOLE = 1 << 20
Way = Callable[[Upscaler, Pixels], Pixels]
"""Enlarges by the upscaler's own factor."""


def plain_call(upscaler: Upscaler, pixels: Pixels) -> Pixels:
    """The network over the whole picture, as its authors' scripts do it."""
    given = torch.from_numpy(pixels).to(upscaler.device).permute(2, 0, 1)[None] / 255
    layout = torch.channels_last if upscaler.channels_last else torch.contiguous_format
    given = given.to(upscaler.data_type).contiguous(memory_format=layout)
    with torch.no_grad():
        enlarged = upscaler.network(given)[0].float()
    levels = (enlarged * 255).round().clamp(0, 255).byte()
    plain: Pixels = levels.permute(1, 2, 0).contiguous().cpu().numpy()
    return plain


def as_one_tile(upscaler: Upscaler, pixels: Pixels) -> Pixels:
    """As a request has it that asks for one tile."""
    return enlarge(upscaler, pixels, upscaler.factor, _WHOLE)


def in_tiles(upscaler: Upscaler, pixels: Pixels) -> Pixels:
    """As a request has it that says nothing."""
    return enlarge(upscaler, pixels, upscaler.factor)


WAYS: dict[str, Way] = {
    "plain call": plain_call,
    "one tile": as_one_tile,
    "chosen tiles": in_tiles,
}


def synthetic(edge: int) -> Pixels:
    """A picture with flat parts, edges and noise, uint8 `[edge, edge, 3]`."""
    random = np.random.default_rng(1)
    blocks = random.integers(0, 256, (-(-edge // 32), -(-edge // 32), 3))
    picture = blocks.repeat(32, 0).repeat(32, 1)[:edge, :edge]
    return np.clip(picture + random.integers(-8, 9, picture.shape), 0, 255).astype(np.uint8)
