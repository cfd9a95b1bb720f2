"""Inpainted pictures are those of diffusers' inpainting pipelines, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageDraw, ImageFilter
from transformers import CLIPTextModel

from domains.errors import InvalidArgument
from domains.inference.backends.masked_picture import (
    box_around,
    fill_from_surroundings,
    lay_out,
    overlaid,
)
from domains.inference.types import (
    Inpainting,
    InpaintingFill,
    OutpaintingMargins,
    Scheduler,
    SchedulerSettings,
)
from domains.picture.types import PreparedPicture
from tests.domains.inference.backends.conftest import own_share
from tests.domains.inference.backends.test_image_to_image import drawn_by, painting
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_sd1 import PROMPT, loaded, tiny_pipeline
from tests.domains.model.disk import edit
from tests.libraries import OLD_DIFFUSERS

SIDE = 64
SIZE = {"width": SIDE, "height": SIDE}
HARD = Inpainting(strength=0.6, mask_blur_pixels=0)


def hole(side: int = SIDE) -> Image.Image:
    """White right of the middle."""
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).rectangle((side // 2, side // 4, side - 9, side - 17), fill=255)
    return mask


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[Image.Image], PreparedPicture]:
    """A picture as the front prepares it."""

    def call(image: Image.Image) -> PreparedPicture:
        data = image.tobytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = tmp_path / sha256
        path.write_bytes(data)
        return PreparedPicture(path, *image.size, sha256, image.mode == "L")

    return call


@pytest.fixture
def redraw(draw: Callable[..., Any], prepared: Callable[..., Any]) -> Callable[..., Any]:
    """Draw in the painting's hole."""

    def call(start: Inpainting = HARD, mask: Image.Image | None = None, **changes: Any) -> Any:
        return draw(
            picture=prepared(painting(SIDE, SIDE)),
            mask=prepared(mask or hole()),
            inpainting=start,
            **(SIZE | changes),
        )

    return call


def arguments(**changes: Any) -> dict[str, Any]:
    usual = {"mask_image": hole(), "width": SIDE, "height": SIDE, "num_inference_steps": 4}
    return usual | changes


@pytest.fixture
def expected(pipeline: Any, work: Any) -> Callable[..., Any]:
    """Pixels and final latents of the reference pipeline."""
    reference: Any = StableDiffusionXLInpaintPipeline(**pipeline.components)
    reference.set_progress_bar_config(disable=True)

    def call(scheduler: Scheduler = Scheduler.EULER_DISCRETE, **changes: Any) -> Any:
        cls = getattr(diffusers, scheduler.value)
        reference.scheduler = cls.from_config(pipeline.scheduler.config)
        usual = arguments(prompt=work.settings.prompt) | own_share(scheduler)
        return drawn_by(reference, painting(SIDE, SIDE), **(usual | changes))

    return call


@pytest.mark.parametrize(
    "scheduler", [Scheduler.EULER_ANCESTRAL_DISCRETE, Scheduler.DPM_SOLVER_MULTISTEP]
)
def test_a_hole_is_drawn_as_diffusers_draws_it(redraw, expected, scheduler):
    same(redraw(scheduler=SchedulerSettings(scheduler)), expected(scheduler))


@pytest.mark.demonstration
@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_and_strength(redraw, expected, scheduler, strength):
    start = Inpainting(strength=strength, mask_blur_pixels=0)
    same(
        redraw(start, steps=5, scheduler=SchedulerSettings(scheduler)),
        expected(scheduler, num_inference_steps=5, strength=strength),
    )


def test_a_blurred_mask_is_the_one_that_diffusers_is_given_blurred(redraw, expected):
    start = Inpainting(strength=0.6, mask_blur_pixels=5)
    blurred = VaeImageProcessor.blur(hole(), 5)
    same(redraw(start, steps=2), expected(mask_image=blurred, num_inference_steps=2))


def test_the_masks_surroundings_alone_are_drawn_and_pasted_back(redraw, expected):
    start = Inpainting(strength=0.6, mask_blur_pixels=0, crop_margin_pixels=4)
    same(redraw(start, steps=2), expected(num_inference_steps=2, padding_mask_crop=4))


@pytest.mark.parametrize("crop", [None, 6])
def test_what_is_kept_is_kept_pixel_for_pixel(redraw, crop):
    start = Inpainting(mask_blur_pixels=2, keep_unmasked_pixels=True, crop_margin_pixels=crop)
    drawn = redraw(start, steps=2).pixels[0]
    before = np.asarray(painting(SIDE, SIDE))
    kept = np.asarray(hole().filter(ImageFilter.GaussianBlur(2))) == 0
    assert np.array_equal(drawn[kept], before[kept])
    assert not np.array_equal(drawn[~kept], before[~kept])


def test_an_inverted_mask_is_the_other_half(redraw):
    start = Inpainting(strength=0.6, mask_blur_pixels=0, invert_mask=True)
    inverted = Image.eval(hole(), lambda value: 255 - value)
    same_pixels(redraw(start, inverted, steps=2), redraw(HARD, steps=2))


def test_a_plain_picture_afterwards_is_the_same_as_before(draw, redraw):
    before = draw(steps=2, **SIZE)
    redraw(steps=2)
    assert draw(steps=2, **SIZE).images[0].data == before.images[0].data


def test_each_image_is_drawn_as_if_alone(redraw):
    start = Inpainting(strength=0.6, fill=InpaintingFill.NOISE)
    together = redraw(start, steps=2, seeds=(7, 8))
    assert torch.equal(together.latents[1], redraw(start, steps=2, seeds=(8,)).latents[0])


def test_fills_differ_where_it_is_redrawn(redraw):
    drawn = {
        fill: redraw(Inpainting(strength=0.5, fill=fill, mask_blur_pixels=0), steps=2).pixels[0]
        for fill in InpaintingFill
    }
    values = list(drawn.values())
    assert all(
        not np.array_equal(one, other)
        for place, one in enumerate(values)
        for other in values[:place]
    )


def test_margins_make_it_larger_and_are_drawn_alone(draw, prepared):
    margins = OutpaintingMargins(left_pixels=32, bottom_pixels=64)
    start = Inpainting(mask_blur_pixels=0, keep_unmasked_pixels=True, margins=margins)
    picture = painting(SIDE, SIDE)
    drawn = draw(picture=prepared(picture), inpainting=start, steps=2, **SIZE).pixels[0]
    assert drawn.shape == (SIDE + 64, SIDE + 32, 3)
    assert np.array_equal(drawn[:SIDE, 32:], np.asarray(picture))


def same_pixels(one: Any, other: Any) -> None:
    assert np.array_equal(one.pixels[0], other.pixels[0])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """SD 1.x models by the channels that their UNets take."""
    root = tmp_path_factory.mktemp("models")
    found = {}
    for channels in (4, 9):
        pipe = tiny_pipeline()
        torch.manual_seed(5)
        config = dict(pipe.unet.config) | {"in_channels": channels}
        unet = diffusers.UNet2DConditionModel.from_config(config)
        found[channels] = root / f"tiny-{channels}"
        pipe.unet = unet
        pipe.save_pretrained(found[channels])
        if channels == 9:
            index = found[channels] / "model_index.json"
            edit(index, _class_name="StableDiffusionInpaintPipeline")
    return found


@pytest.fixture
def expected_of_sd1(
    folders: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    if not OLD_DIFFUSERS:  # with it came a transformers that has one
        # Where the pipeline looks for the last norm, as older versions of transformers had it.
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda it: it), raising=False)

    def call(channels: int, scheduler: Scheduler, **changes: Any) -> Any:
        own = loaded(folders[channels])
        reference: Any = StableDiffusionInpaintPipeline(
            **own.components, requires_safety_checker=False
        )
        reference.set_progress_bar_config(disable=True)
        cls = getattr(diffusers, scheduler.value)
        reference.scheduler = cls.from_config(own.scheduler.config)
        usual = arguments(prompt=PROMPT) | own_share(scheduler)
        return drawn_by(reference, painting(SIDE, SIDE), **(usual | changes))

    return call


@pytest.mark.parametrize(
    ("channels", "strength"),
    [
        (9, 0.6),
        pytest.param(9, 1.0, marks=pytest.mark.demonstration),
        pytest.param(4, 0.6, marks=pytest.mark.demonstration),
    ],
)
def test_sd1_with_and_without_further_channels(
    redraw, expected_of_sd1, folders, channels, strength
):
    scheduler = Scheduler.EULER_ANCESTRAL_DISCRETE
    ours = redraw(
        Inpainting(strength=strength, mask_blur_pixels=0),
        model_id=folders[channels].name,
        model_path=folders[channels],
        prompt=PROMPT,
        scheduler=SchedulerSettings(scheduler),
    )
    same(ours, expected_of_sd1(channels, scheduler, strength=strength))


@pytest.mark.demonstration
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_with_further_channels(redraw, expected_of_sd1, folders, scheduler):
    ours = redraw(
        model_id="tiny-9",
        model_path=folders[9],
        prompt=PROMPT,
        scheduler=SchedulerSettings(scheduler),
    )
    same(ours, expected_of_sd1(9, scheduler))


@pytest.mark.parametrize("channels", [pytest.param(4, marks=pytest.mark.demonstration), 9])
def test_a_grey_mask_is_redrawn_where_it_is_light(redraw, folders, channels):
    """Half a mask is none that a model knows: it gets what is redrawn, and what is not."""
    ramp = Image.linear_gradient("L").resize((SIDE, SIDE))
    hard = ramp.point(lambda value: 255 if value >= 128 else 0)
    asked = {"model_id": f"tiny-{channels}", "model_path": folders[channels], "steps": 2}
    soft, sharp = (redraw(mask=mask, prompt=PROMPT, **asked) for mask in (ramp, hard))
    assert torch.equal(soft.latents[0], sharp.latents[0])


@pytest.mark.parametrize(
    ("width", "blur", "drawn"), [(3, 4, False), (3, 0, False), (9, 0, True), (9, 4, True)]
)
def test_a_mask_of_which_blur_and_latents_leave_nothing_is_refused(redraw, width, blur, drawn):
    line = Image.new("L", (SIDE, SIDE))
    line.paste(255, (SIDE // 2 + 1, 0, SIDE // 2 + 1 + width, SIDE))
    start = Inpainting(strength=0.6, mask_blur_pixels=blur)
    if drawn:
        redraw(start, line, steps=2)
        return
    with pytest.raises(InvalidArgument) as refused:
        redraw(start, line, steps=2)
    assert [broken.field for broken in refused.value.violations] == ["inpainting.mask"]


def test_along_a_grey_mask_the_old_picture_fades_into_the_new(redraw):
    """Without a ring: no pixel is darker or lighter than both."""
    levels = np.linspace(-40, 300, SIDE).clip(0, 255).astype(np.uint8)
    ramp = Image.fromarray(np.repeat(levels[:, None], SIDE, 1))
    start = Inpainting(strength=0.6, mask_blur_pixels=0)
    new = redraw(start, ramp, steps=2).pixels[0].astype(int)
    kept = Inpainting(strength=0.6, mask_blur_pixels=0, keep_unmasked_pixels=True)
    blended = redraw(kept, ramp, steps=2).pixels[0].astype(int)
    old = np.asarray(painting(SIDE, SIDE)).astype(int)
    assert (blended >= np.minimum(old, new) - 1).all()
    assert (blended <= np.maximum(old, new) + 1).all()
    assert np.array_equal(blended[0], old[0])
    assert np.array_equal(blended[-1], new[-1])


@pytest.mark.demonstration
@pytest.mark.parametrize("blur", [0, 4])
def test_a_mask_beside_the_latents_grid_shows_no_more_of_a_seam(draw, prepared, blur):
    """A latent stands for 8 x 8 pixels, and masks end anywhere."""
    size = {"width": 128, "height": 128, "steps": 8}
    before = draw(**size).pixels[0]
    start = Inpainting(0.8, mask_blur_pixels=blur, keep_unmasked_pixels=True)

    def seam(left: int, top: int) -> float:
        right, bottom = left + 48, top + 48
        mask = Image.new("L", (128, 128))
        mask.paste(255, (left, top, right, bottom))
        picture = prepared(Image.fromarray(before))
        drawn = draw(picture=picture, mask=prepared(mask), inpainting=start, **size)
        pixels = drawn.pixels[0].astype(int)
        across = pixels[top:bottom, [left, right]] - pixels[top:bottom, [left - 1, right - 1]]
        down = pixels[[top, bottom], left:right] - pixels[[top - 1, bottom - 1], left:right]
        return float((np.abs(across).mean() + np.abs(down).mean()) / 2)

    assert seam(35, 37) < 1.5 * seam(32, 32)
    assert seam(3, 5) < 1.5 * seam(8, 8)


def test_boxes_are_diffusers():
    chance = np.random.default_rng(4)
    for _ in range(60):
        width, height = (int(edge) for edge in chance.integers(20, 90, 2))
        mask = Image.new("L", (width, height))
        edges = sorted(chance.integers(0, width, 2)), sorted(chance.integers(0, height, 2))
        (left, right), (top, bottom) = edges
        ImageDraw.Draw(mask).rectangle((left, top, right, bottom), fill=9)
        margin = int(chance.integers(0, 12))
        theirs = VaeImageProcessor.get_crop_region(mask, width, height, pad=margin)
        assert box_around(mask, margin) == theirs
    assert box_around(Image.new("L", (8, 8)), 2) is None


def test_an_overlay_is_diffusers():
    image, original = painting(40, 24), painting(40, 24).rotate(180)
    mask = hole(40).resize((40, 24)).filter(ImageFilter.GaussianBlur(3))
    theirs = VaeImageProcessor().apply_overlay(mask, original, image)
    assert np.array_equal(np.asarray(overlaid(image, original, mask)), np.asarray(theirs))


def test_a_hole_is_filled_with_the_colours_around_it():
    image = Image.new("RGB", (SIDE, SIDE), (200, 30, 90))
    image.paste((0, 255, 0), (24, 24, 40, 40))
    mask = Image.new("L", image.size)
    mask.paste(255, (24, 24, 40, 40))
    filled = np.asarray(fill_from_surroundings(image, mask)).astype(int)
    assert np.abs(filled - (200, 30, 90)).max() <= 8


def test_margins_are_white_in_the_mask_and_repeat_the_edges():
    margins = OutpaintingMargins(2, 0, 0, 3)
    picture = np.asarray(painting(16, 8))
    laid = lay_out(Inpainting(mask_blur_pixels=0, margins=margins), picture, None)
    assert laid.picture.size == laid.mask.size == (18, 11)
    assert np.asarray(laid.mask)[:8, 2:].max() == 0
    assert np.asarray(laid.mask)[8:].min() == 255
    assert np.array_equal(np.asarray(laid.picture)[:8, 0], picture[:, 0])


@pytest.mark.parametrize("blur", [0, 4, 64])
def test_what_is_added_shows_no_repeated_edge(blur):
    """However soft the mask: there is nothing of the picture beyond its old edges."""
    margins = OutpaintingMargins(16, 24, 16, 8)
    how = Inpainting(mask_blur_pixels=blur, margins=margins, keep_unmasked_pixels=True)
    picture = np.full((SIDE, SIDE, 3), 200, np.uint8)
    scene = lay_out(how, picture, None)
    result = scene.finished(np.zeros_like(np.asarray(scene.picture)))[..., 0]
    inside = np.zeros(result.shape, bool)
    inside[24 : 24 + SIDE, 16 : 16 + SIDE] = True
    assert result[~inside].max() == 0
    # Black in the blurred mask keeps its bits, and no line is harder than the blur has it.
    kept = np.asarray(scene.mask) == 0
    assert (result[kept] == 200).all()
    steepest = np.abs(np.diff(result[24 + SIDE // 2].astype(int))).max()
    assert steepest <= 200 / max(blur, 1) + 1
