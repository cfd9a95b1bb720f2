"""Pictures of the demo models, drawn by diffusers on the CPU in float32.

Everything is seeded, so a figure is the same on every run of one machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from demo.train.parts.base import BASE
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import load_emoji

MODELS = Path(__file__).parents[1] / "models"
STEPS = 16
GUIDANCE = 6.0
SCENES = 6
# Its scenes are six distinct things on named colours; no result was looked at to choose it.
SEED = 2008


@dataclass(frozen=True)
class Scenes:
    """Prompts, and pictures of what they ask for: float32 [N, 3, 256, 256] in [0, 1].

    Every emoji stands on a colour that no training combined it with.
    """

    prompts: tuple[str, ...]
    truth: Tensor


@cache
def scenes(count: int = SCENES, emoji: int | None = None) -> Scenes:
    """The scenes that measures share: one large, centred emoji each.

    `emoji` takes them from the first so many emoji, which is faster; None from all.
    """
    source = load_emoji(limit=emoji)
    compositor = Compositor(source, device="cpu", seed=SEED, held_out=True)
    drawn = compositor.draw(count, single=True)
    return Scenes(tuple(drawn.prompts), (drawn.pixels + 1) / 2)


def quiet(pipeline: Any) -> Any:
    """The pipeline without progress bars."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def base_pipeline(kind: Any = StableDiffusionXLPipeline, **parts: Any) -> Any:
    """A new pipeline of the base model, float32; `kind` is a diffusers pipeline class."""
    return quiet(
        kind.from_pretrained(
            BASE, variant="fp16", dtype=torch.float32, add_watermarker=False, **parts
        )
    )


def generators(count: int, seed: int = SEED) -> list[torch.Generator]:
    """One per picture, so that a picture does not depend on how many are drawn."""
    return [torch.Generator().manual_seed(seed + number) for number in range(count)]


def draw(
    pipeline: Any,
    prompts: tuple[str, ...],
    *,
    seed: int = SEED,
    steps: int = STEPS,
    **settings: Any,
) -> Tensor:
    """Draw each prompt at 256x256.

    Args:
        pipeline: Any of diffusers' text-to-image pipelines.
        prompts: One picture each; the picture of prompt n has seed `seed` + n.
        steps: Denoising steps.
        settings: Passed on to the pipeline.

    Returns:
        float32 [N, 3, 256, 256] in [0, 1].
    """
    result = pipeline(
        prompt=list(prompts),
        num_inference_steps=steps,
        generator=generators(len(prompts), seed),
        output_type="pt",
        **{"guidance_scale": GUIDANCE, "height": 256, "width": 256, **settings},
    )
    pictures: Tensor = result.images
    return pictures.float()


@cache
def base_pictures(count: int = SCENES) -> Tensor:
    """The base model's own pictures of `scenes(count)`, drawn once."""
    return draw(base_pipeline(), scenes(count).prompts)
