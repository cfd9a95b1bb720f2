"""The demo upscalers are worth their time: nearer to the truth than bicubic enlargement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from demo.measure.pictures import SEED
from demo.measure.upscaler import GAIN_DB
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import load_emoji
from demo.train.upscaler import HELD_OUT_EVERY, shrink, split
from domains.chain.backends.upscaling.enlarging import enlarge
from domains.chain.backends.upscaling.under_way import Pixels
from tests.domains.chain.backends.upscaling.files import demo

# What demo/results/upscaler.json has over 32 pictures.
STATED_GAIN_DB = {4: 6.42, 2: 5.49}


def pictures(count: int, *, emoji: int | None = None) -> torch.Tensor:
    """float32 `[count, 3, 256, 256]` of emoji that no training saw, 0 to 1."""
    _, kept_out = split(load_emoji(limit=emoji))
    return (Compositor(kept_out, device="cpu", seed=SEED).draw(count).pixels + 1) / 2


def levels(picture: torch.Tensor) -> Pixels:
    return (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def distance(one: Pixels, truth: Pixels) -> float:
    """PSNR in dB."""
    return float(-10 * np.log10(np.mean((one / 255 - truth / 255) ** 2)))


def gains(truths: torch.Tensor, factor: int) -> list[float]:
    """In dB above bicubic, in tiles as a request has them."""
    upscaler = demo(factor)
    found = []
    for truth, small in zip(
        map(levels, truths), map(levels, shrink(truths, factor)), strict=True
    ):
        size = (truth.shape[1], truth.shape[0])
        bicubic = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
        ours = enlarge(upscaler, small, factor, 96)
        found.append(distance(ours, truth) - distance(bicubic, truth))
    return found


@pytest.mark.parametrize("factor", [2, 4])
def test_a_demo_upscaler_beats_bicubic(factor):
    truths = pictures(2, emoji=2 * HELD_OUT_EVERY)[..., 64:192, 64:192]
    assert min(gains(truths, factor)) > GAIN_DB


@pytest.mark.demonstration
@pytest.mark.parametrize("factor", [2, 4])
def test_a_demo_upscaler_gains_what_is_stated(factor):
    gain = float(np.mean(gains(pictures(32), factor)))
    assert gain == pytest.approx(STATED_GAIN_DB[factor], abs=0.5)
