"""The edge ControlNet: how far the edges of what is drawn agree with those asked for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline
from torch import Tensor
from torch.nn import functional

from demo.measure.figures import Figure
from demo.measure.pictures import MODELS, SEED, base_pipeline, draw
from demo.measure.sheet import SHEETS, write_sheet
from demo.train.parts.compositing import Compositor
from demo.train.parts.edges import canny
from demo.train.parts.emoji import load_emoji

PICTURES = 6
SCALES = (1.0, 0.75, 0.5, 0.25, 0.0)
RADIUS = 2
RATIO = 2.0
# Fewer than this much may the agreement rise as the scale falls: pictures differ by chance.
WAVE = 0.02
# The most of the whole fall that one step of the scale may make.
STEEPEST = 0.6


def agreement(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of two edge maps [N, 1, H, W], each widened by RADIUS: [N]."""
    wide = [
        functional.max_pool2d(edges, 2 * RADIUS + 1, stride=1, padding=RADIUS) > 0
        for edges in (first, second)
    ]
    both = (wide[0] & wide[1]).sum(dim=(1, 2, 3))
    either = (wide[0] | wide[1]).sum(dim=(1, 2, 3))
    return both / either.clamp_min(1)


def measure(models: Path = MODELS, sheets: Path = SHEETS) -> list[Figure]:
    """Draw held-out scenes, emoji anywhere in them, with the control at several scales."""
    # Not the centred scenes of other measures: those the base model meets by itself.
    scenes = Compositor(load_emoji(), device="cpu", seed=SEED, held_out=True).draw(PICTURES)
    control = canny(scenes.pixels)
    kind: Any = ControlNetModel
    network = kind.from_pretrained(models / "emoji-canny")
    pipeline = base_pipeline(StableDiffusionXLControlNetPipeline, controlnet=network)
    shown: list[tuple[str, Tensor]] = [
        ("truth", (scenes.pixels + 1) / 2),
        ("control", control.expand(-1, 3, -1, -1)),
    ]
    found: dict[float, float] = {}
    for scale in SCALES:
        pictures = draw(
            pipeline,
            tuple(scenes.prompts),
            image=control.expand(-1, 3, -1, -1),
            controlnet_conditioning_scale=scale,
        )
        found[scale] = float(agreement(canny(pictures * 2 - 1), control).mean())
        shown.append((f"scale {scale}", pictures))
    write_sheet(sheets / "controlnet.webp", shown, scenes.prompts)
    falls = [found[high] - found[low] for high, low in pairwise(SCALES)]
    ratio = found[1.0] / max(found[0.0], 1e-6)
    # Without any fall, no step is smooth.
    steepest = max(falls) / sum(falls) if sum(falls) > 0 else 1.0
    return [
        *(Figure(f"edge agreement (IoU), scale {at}", value) for at, value in found.items()),
        Figure("agreement with over without", ratio, f">= {RATIO}", ratio >= RATIO),
        Figure(
            "least fall from one scale to the next",
            min(falls),
            f"> -{WAVE}: falls with the scale",
            min(falls) > -WAVE,
        ),
        Figure(
            "steepest step's share of the fall",
            steepest,
            f"<= {STEEPEST}: smooth",
            steepest <= STEEPEST,
        ),
    ]
