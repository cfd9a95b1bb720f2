"""What the SD 1.x model draws, read from its single file as people load such files."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from demo.measure.figures import Figure
from demo.measure.metrics import background, recognised
from demo.measure.pictures import MODELS, base_pictures, draw, quiet, scenes
from demo.measure.sheet import SHEETS, write_sheet
from demo.train.parts.latents import decode, encode
from demo.train.parts.losses import psnr

SD1 = MODELS / "emoji-sd1.safetensors"
CONFIGURATION = MODELS.parent / "configs" / "emoji-sd1"
MOST_BYTES = 25_000_000


def sd1_pipeline() -> Any:
    """The model, from its file and the folder that says how to build it."""
    kind: Any = StableDiffusionPipeline
    return quiet(
        kind.from_single_file(
            str(SD1),
            config=str(CONFIGURATION),
            dtype=torch.float32,
            safety_checker=None,
            requires_safety_checker=False,
        )
    )


def measure() -> list[Figure]:
    """Draw the shared scenes and compare them with what the prompts ask for."""
    wanted = scenes()
    pipeline = sd1_pipeline()
    plain, ours = base_pictures(), draw(pipeline, wanted.prompts)
    truth = wanted.truth * 2 - 1
    restored = decode(pipeline.vae, encode(pipeline.vae, truth))
    write_sheet(
        SHEETS / "sd1.webp",
        [("base", plain), ("sd1", ours), ("emoji", wanted.truth)],
        wanted.prompts,
    )
    named = recognised(ours, wanted.truth)
    colour = float((background(ours) - background(wanted.truth)).abs().mean())
    size = SD1.stat().st_size
    return [
        Figure("pictures that show what the prompt names", named, ">= 0.75", named >= 0.75),
        Figure("the same, base", recognised(plain, wanted.truth)),
        Figure("error of the background's colour, 0 to 1", colour, "< 0.05", colour < 0.05),
        Figure(
            "PSNR in dB of its VAE on the true pictures", float(psnr(restored, truth).mean())
        ),
        Figure("bytes", size, "<= 25,000,000", size <= MOST_BYTES),
    ]
