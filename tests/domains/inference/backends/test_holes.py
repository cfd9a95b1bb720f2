"""A hole in a picture of the demo model is mended without a seam; where slivers in margins come
from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from demo.measure.inpainting import Region, seam
from domains.inference.types import Inpainting, OutpaintingMargins
from tests.domains.inference.backends.test_inpainting import prepared

__all__ = ["prepared"]

pytestmark = pytest.mark.demonstration

HOLE = Region(100, 172, 116, 188)
# The mask's edge lies where the picture is whole: beyond a latent's 8 pixels and the blur.
REDRAWN = HOLE.grown(12)
BLUR, STEPS = 4, 12
GREY = 240


def mask_of(region: Region) -> Image.Image:
    mask = Image.new("L", (256, 256))
    mask.paste(255, (region.left, region.top, region.right, region.bottom))
    return mask


def levels(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()


@pytest.fixture(scope="module")
def apples() -> dict[str, Any]:
    """What was drawn already, by name."""
    return {}


@pytest.fixture
def apple(draw: Any, apples: dict[str, Any]) -> Any:
    """A whole apple, uint8 `[256, 256, 3]`."""
    if "whole" not in apples:
        apples["whole"] = draw(steps=16).pixels[0]
    return apples["whole"]


@pytest.fixture
def mend(draw: Any, apple: Any, prepared: Any) -> Any:
    """Draw in the hole; the seam at the mask's border, in levels of 255 beyond what changes a
    few pixels inside and outside, and how far the hole is from what was there."""

    def call(region: Region, **how: Any) -> tuple[float, float]:
        broken = apple.copy()
        inside = np.s_[HOLE.top : HOLE.bottom, HOLE.left : HOLE.right]
        broken[inside] = GREY
        drawn = draw(
            steps=STEPS,
            picture=prepared(Image.fromarray(broken)),
            mask=prepared(mask_of(region)),
            inpainting=Inpainting(strength=1.0, **how),
        ).pixels[0]
        kept = np.asarray(mask_of(region.grown(3 * BLUR))) == 0
        assert np.array_equal(drawn[kept], apple[kept])
        away = np.abs(drawn[inside].astype(int) - apple[inside].astype(int)).mean()
        return float(seam(levels(drawn), region)[0]), float(away)

    return call


@pytest.mark.parametrize("how", [{"keep_unmasked_pixels": True}, {"crop_margin_pixels": 64}])
def test_a_hole_is_mended_without_a_seam(mend, how):
    """Whole picture or the hole's surroundings alone: less than a level of 255."""
    edge, away = mend(REDRAWN, mask_blur_pixels=BLUR, **how)
    assert abs(edge) < 1
    assert away < 5
    # It is the blur that hides the border of what was drawn.
    hard, _ = mend(REDRAWN, mask_blur_pixels=0, **how)
    assert hard > edge + 2


def test_without_surroundings_the_model_cannot_know_what_goes_on_there(mend):
    _, away = mend(REDRAWN, mask_blur_pixels=BLUR, crop_margin_pixels=0)
    assert away > 15


def test_a_mask_no_wider_than_the_hole_leaves_an_edge_of_it(mend):
    edge, _ = mend(HOLE, mask_blur_pixels=BLUR, keep_unmasked_pixels=True)
    assert edge > 20


def slivers(pixels: Any, apple: Any) -> float:
    """The share of both margins that is not of the picture's background."""
    margins = np.concatenate([pixels[:, :64], pixels[:, -64:]], axis=1).astype(int)
    background = apple[:, :8].reshape(-1, 3).mean(axis=0)
    return float((np.abs(margins - background).max(axis=-1) > 40).mean())


@pytest.fixture
def widen(draw: Any, apple: Any, prepared: Any) -> Any:
    """What is in margins of 64 pixels on the left and right that are not of the background."""

    def call(**changes: Any) -> float:
        strength = changes.pop("strength")
        margins = OutpaintingMargins(left_pixels=64, right_pixels=64)
        start = Inpainting(strength=strength, margins=margins)
        picture = prepared(Image.fromarray(apple))
        pixels = draw(picture=picture, inpainting=start, steps=10, **changes).pixels[0]
        return slivers(pixels, apple)

    return call


def test_slivers_in_margins_are_what_the_model_draws_there_from_the_prompt(draw, apple, widen):
    """In a picture wider than its own the model draws a second apple, with a picture or
    without. Without the first steps, or where nothing is said of an apple, there is none."""
    assert slivers(draw(width=384, steps=10).pixels[0], apple) > 0.01
    assert widen(strength=1.0) > 0.1
    assert widen(strength=0.6) < 0.001
    assert widen(strength=1.0, prompt="a blue background") < 0.001
