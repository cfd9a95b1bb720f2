"""Whether the base model inpaints without a seam, so that no inpainting model is needed.

Two uses, each on composites: half of an emoji is drawn anew with the prompt of the whole
(repair), and the whole emoji becomes another one on its background (replace). The model's
picture counts inside the region alone; outside, the given picture is put back, as an image
editor does. A seam is a change of colour along the region's border that is neither in the
given picture nor beside the border. What the VAE alone leaves, when the given picture goes
through it, is told too: no inpainting model could leave less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionXLInpaintPipeline
from torch import Tensor

from demo.measure.figures import Figure
from demo.measure.pictures import GUIDANCE, STEPS, base_pipeline, generators, scenes
from demo.measure.sheet import SHEETS, write_sheet
from demo.train.parts.latents import decode, encode

VISIBLE = 8 / 255  # a step that is just seen on a plain colour
BESIDE = 8  # pixels between the border and the lines that it is compared with
_ON = " on a"


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels; `bottom` and `right` are the first outside."""

    top: int
    bottom: int
    left: int
    right: int

    def mask(self, size: int = 256) -> Tensor:
        """float32 [1, 1, size, size], 1 inside."""
        result = torch.zeros(1, 1, size, size)
        result[..., self.top : self.bottom, self.left : self.right] = 1
        return result

    def grown(self, by: int) -> Region:
        """The rectangle with every side moved outwards; inwards if negative."""
        return Region(self.top - by, self.bottom + by, self.left - by, self.right + by)


REPAIR = Region(48, 208, 128, 208)
REPLACE = Region(16, 240, 16, 240)


def change_across(pictures: Tensor, region: Region) -> Tensor:
    """Change of colour from each pixel inside a region's border to its neighbour outside.

    Args:
        pictures: float32 [N, 3, H, W] in [0, 1].

    Returns:
        float32 [N, P], of the channel that changes most, along the border's P pixels.
    """
    top, bottom, left, right = region.top, region.bottom, region.left, region.right
    sides = (
        pictures[..., top, left:right] - pictures[..., top - 1, left:right],
        pictures[..., bottom - 1, left:right] - pictures[..., bottom, left:right],
        pictures[..., top:bottom, left] - pictures[..., top:bottom, left - 1],
        pictures[..., top:bottom, right - 1] - pictures[..., top:bottom, right],
    )
    return torch.cat(sides, dim=-1).abs().amax(dim=1)


def seam(pictures: Tensor, region: Region) -> Tensor:
    """How much more colour changes across a border than beside it, mean along it, [N].

    Zero is what a picture without a seam has on average; what is drawn there changes as much
    across the border as across lines a few pixels further in and out.
    """
    inside, outside = (
        change_across(pictures, region.grown(by)).mean(dim=1) for by in (-BESIDE, BESIDE)
    )
    return change_across(pictures, region).mean(dim=1) - (inside + outside) / 2


def replaced(prompts: tuple[str, ...]) -> tuple[str, ...]:
    """Each prompt with the subject of the next one on its own background."""
    parts = [prompt.partition(_ON) for prompt in prompts]
    following = [*parts[1:], parts[0]]
    return tuple(
        subject + on + place
        for (_, on, place), (subject, _, _) in zip(parts, following, strict=True)
    )


def inpaint(
    pipeline: Any,
    prompts: tuple[str, ...],
    pictures: Tensor,
    region: Region,
) -> Tensor:
    """Draw `region` of each picture anew; everything else stays exactly as it was.

    Takes and returns float32 [N, 3, 256, 256] in [0, 1].
    """
    mask = region.mask()
    drawn = pipeline(
        prompt=list(prompts),
        image=pictures,
        mask_image=mask,
        strength=1.0,
        height=256,
        width=256,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=generators(len(prompts)),
        output_type="pt",
    ).images
    return torch.lerp(pictures, drawn.float(), mask)


def measure() -> list[Figure]:
    """Repair and replace; a seam that is seen would call for an inpainting model."""
    prompts, truth = scenes().prompts, scenes().truth
    pipeline = base_pipeline(StableDiffusionXLInpaintPipeline)
    repaired = inpaint(pipeline, prompts, truth, REPAIR)
    other = inpaint(pipeline, replaced(prompts), truth, REPLACE)
    latents = encode(pipeline.vae, truth * 2 - 1)
    through = (decode(pipeline.vae, latents).clamp(-1, 1) + 1) / 2
    write_sheet(
        SHEETS / "inpainting.webp",
        [
            ("given", truth),
            ("region to repair", truth * (1 - REPAIR.mask() / 2)),
            ("repaired", repaired),
            ("region to replace", truth * (1 - REPLACE.mask() / 2)),
            ("replaced", other),
        ],
        prompts,
    )
    figures = []
    for name, pictures, region in (("repair", repaired, REPAIR), ("replace", other, REPLACE)):
        mean = float(seam(pictures, region).mean())
        figures += [
            Figure(f"seam before, {name}", float(seam(truth, region).mean())),
            Figure(
                f"seam of the VAE alone, {name}",
                float(seam(torch.lerp(truth, through, region.mask()), region).mean()),
            ),
            Figure(f"seam after, {name}", mean, f"< {VISIBLE:.3f}, just seen", mean < VISIBLE),
            Figure(f"largest seam after, {name}", float(seam(pictures, region).max())),
        ]
    return figures
