"""What the comic checkpoint draws: the same prompts, in another style."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from demo.measure.figures import Figure
from demo.measure.metrics import drawn, luma, recognised, saturation
from demo.measure.pictures import MODELS, base_pictures, draw, quiet, scenes
from demo.measure.sheet import SHEETS, write_sheet
from demo.train.parts.base import BASE
from demo.train.parts.styles import comic

COMIC = MODELS / "emoji-comic.safetensors"
DARK = 0.25


def ink_share(pictures: Tensor) -> Tensor:
    """The share of what is drawn (not background) that is dark, [N] in [0, 1]."""
    there = drawn(pictures)
    dark = there & (luma(pictures) < DARK)
    return dark.sum(dim=(1, 2, 3)) / there.sum(dim=(1, 2, 3)).clamp_min(1)


def style(pictures: Tensor) -> Tensor:
    """What makes a picture a comic, [N, 2]: its dark lines, and its saturation."""
    return torch.stack([ink_share(pictures), saturation(pictures)], dim=1)


def style_distance(pictures: Tensor, comics: Tensor, plain: Tensor) -> float:
    """How far pictures are from `comics` in style; 1 is as far as `plain` is from them.

    Every picture is compared with the comic of the same scene.
    """
    ours, wanted, unlike = (style(some) for some in (pictures, comics, plain))
    return float((ours - wanted).norm(dim=1).mean() / (unlike - wanted).norm(dim=1).mean())


def measure() -> list[Figure]:
    """Draw the same scenes with both checkpoints."""
    wanted = scenes()
    pipeline = quiet(
        StableDiffusionXLPipeline.from_single_file(
            str(COMIC), config=str(BASE), dtype=torch.float32, add_watermarker=False
        )
    )
    plain, ours = base_pictures(), draw(pipeline, wanted.prompts)
    target = (comic(wanted.truth * 2 - 1) + 1) / 2
    write_sheet(
        SHEETS / "comic.webp",
        [("base", plain), ("comic", ours), ("emoji, styled", target)],
        wanted.prompts,
    )
    distance = style_distance(ours, target, wanted.truth)
    base = style_distance(plain, target, wanted.truth)
    named = recognised(ours, target)
    return [
        Figure("style distance, base", base),
        Figure("style distance, comic", distance, "below half the base's", distance < base / 2),
        Figure("dark share of what is drawn, base", float(ink_share(plain).mean())),
        Figure(
            "dark share of what is drawn, comic",
            float(ink_share(ours).mean()),
            "above the base's",
            bool(ink_share(ours).mean() > ink_share(plain).mean()),
        ),
        Figure("pictures that show what the prompt names", named, ">= 0.75", named >= 0.75),
    ]
