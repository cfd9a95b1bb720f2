"""Parts that work together: as diffusers' pipelines one after the other, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from msgspec.structs import replace
from PIL import Image, ImageFilter
from torch.nn import functional

from domains.inference.types import (
    GuidanceSettings,
    Inpainting,
    OutpaintingMargins,
    RefinerMode,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SecondPassUpscale,
)
from tests.domains.inference.backends.conftest import own_share
from tests.domains.inference.backends.test_control_nets import (
    edges,
    job_of,
    network,
    random_net,
)
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_inpainting import (
    folders,
    hole,
    prepared,
)
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_refiner import (
    second,
    using,
)

__all__ = ["folders", "prepared", "random_net", "second"]

SIDE, LARGE = 64, 96
SMALL = {"width": SIDE, "height": SIDE, "steps": 4}
FULL = pytest.mark.demonstration
LATENT, PIXELS = SecondPassUpscale.LATENT, SecondPassUpscale.PIXELS
HANDOVER, IMAGE_TO_IMAGE = RefinerMode
OF_REFINERS = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}
HARD = Inpainting(strength=0.7, mask_blur_pixels=0)
# Of those that draw fresh noise, that remember steps, and all others.
USUAL, REMEMBERING = Scheduler.EULER_ANCESTRAL_DISCRETE, Scheduler.DPM_SOLVER_MULTISTEP


def with_samplers(name: str, usual: Any, other: Any) -> Any:
    """Each sampler with both ways of a part; as usual one with one, in full two with both."""
    cases = [(USUAL, usual), pytest.param(USUAL, other, marks=FULL)]
    for each in Scheduler:
        if each is not USUAL:
            mark = FULL if each is REMEMBERING else pytest.mark.matrix
            cases += [pytest.param(each, way, marks=mark) for way in (usual, other)]
    return pytest.mark.parametrize(("scheduler", name), cases)


def again(**changes: Any) -> SecondPass:
    """A resolved second pass: half as large again, in four steps of which two are done."""
    usual: dict[str, Any] = {"strength": 0.5, "steps": 4, "guidance": GuidanceSettings(6.0)}
    return SecondPass(**({"scale": LARGE / SIDE} | usual | changes))


@pytest.fixture
def file_of(prepared: Any) -> Callable[[Image.Image], Any]:
    return lambda image: prepared(image.convert("RGB"))


@pytest.fixture
def masked(prepared: Any) -> dict[str, Any]:
    """A picture and its hole."""
    return {"picture": prepared(painting(SIDE, SIDE)), "mask": prepared(hole())}


@pytest.fixture
def pipe(pipeline: Any, work: Any) -> Callable[..., Any]:
    """Run a pipeline of the demo model's parts, or of others; pixels and final latents."""

    def call(
        kind: Any, scheduler: Scheduler, parts: dict[str, Any] | None = None, **how: Any
    ) -> Any:
        config = pipeline.scheduler.config
        reference = kind(**(pipeline.components if parts is None else parts))
        reference.scheduler = getattr(diffusers, scheduler.value).from_config(config)
        reference.set_progress_bar_config(disable=True)
        seen: list[torch.Tensor] = []

        def keep(_pipe: Any, _index: int, _timestep: Any, state: dict[str, Any]) -> Any:
            seen[:] = [state["latents"].clone()]
            return state

        usual = {
            "prompt": work.settings.prompt,
            "num_inference_steps": 4,
            "guidance_scale": 6.0,
            "generator": torch.Generator("cpu").manual_seed(7),
            **own_share(scheduler),
        }
        images = reference(**(usual | how), callback_on_step_end=keep).images
        return np.asarray(images[0]), seen[0]

    return call


def larger(latents: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(latents, size=(LARGE // 8, LARGE // 8), mode="bilinear")


def enlarged(pixels: Any) -> Image.Image:
    return Image.fromarray(pixels).resize((LARGE, LARGE), Image.Resampling.LANCZOS)


def with_larger(file_of: Any, net: Any, large: Image.Image) -> dict[str, Any]:
    """A ControlNet's job, whose second pass has a picture of its own."""
    asked, then = job_of(file_of, net), job_of(file_of, (net[0], large, {}))
    asked["controls"] = (replace(asked["controls"][0], larger=then["controls"][0]),)
    return asked


def last(drawn: Any) -> Any:
    drawn.latents[:] = drawn.latents[-1:]
    return drawn


@with_samplers("upscale", LATENT, PIXELS)
def test_a_second_pass_follows_control_pictures_of_its_size(
    draw,
    pipe,
    pipeline,
    random_net,
    file_of,
    upscale,
    scheduler,
):
    """The shares are those of each pass's own schedule."""
    own, large = edges(0, SIDE), edges(1, LARGE)
    asked = job_of(file_of, (random_net, own, {"start": 0.3, "conditioning_scale": 0.8}))
    asked["controls"] = (
        replace(
            asked["controls"][0], larger=job_of(file_of, (random_net, large, {}))["controls"][0]
        ),
    )
    drawn = draw(
        **SMALL,
        **asked,
        scheduler=SchedulerSettings(scheduler),
        second_pass=again(upscale=upscale, strength=0.75),
    )
    parts = pipeline.components | {"controlnet": network(random_net)}
    theirs = {"control_guidance_start": 0.3, "controlnet_conditioning_scale": 0.8}
    first = pipe(
        StableDiffusionXLControlNetPipeline,
        scheduler,
        parts,
        image=own,
        width=SIDE,
        height=SIDE,
        **theirs,
    )
    start = larger(first[1]) if upscale is LATENT else enlarged(first[0])
    wanted = pipe(
        StableDiffusionXLControlNetImg2ImgPipeline,
        scheduler,
        parts,
        image=start,
        control_image=large,
        strength=0.75,
        width=LARGE,
        height=LARGE,
        **theirs,
    )
    same(last(drawn), wanted)


@with_samplers("upscale", PIXELS, LATENT)
def test_a_hole_is_drawn_again_larger(draw, pipe, masked, upscale, scheduler):
    drawn = draw(
        **SMALL,
        **masked,
        inpainting=HARD,
        scheduler=SchedulerSettings(scheduler),
        second_pass=again(upscale=upscale),
    )
    kind = StableDiffusionXLInpaintPipeline
    how = {"mask_image": hole(), "strength": 0.7, "width": SIDE, "height": SIDE}
    first = pipe(kind, scheduler, image=painting(SIDE, SIDE), **how)
    start = larger(first[1]) if upscale is LATENT else enlarged(first[0])
    how |= {"strength": 0.5, "width": LARGE, "height": LARGE}
    same(last(drawn), pipe(kind, scheduler, image=start, **how))


@pytest.mark.parametrize("upscale", [LATENT, pytest.param(PIXELS, marks=FULL)])
def test_what_is_kept_has_the_pixels_of_the_enlarged_picture(draw, masked, upscale):
    how = Inpainting(mask_blur_pixels=2, keep_unmasked_pixels=True)
    drawn = draw(**SMALL, **masked, inpainting=how, second_pass=again(upscale=upscale)).pixels[
        0
    ]
    before = np.asarray(enlarged(np.asarray(painting(SIDE, SIDE))))
    blurred = hole().filter(ImageFilter.GaussianBlur(2))
    kept = np.asarray(enlarged(np.asarray(blurred))) == 0
    assert np.array_equal(drawn[kept], before[kept])
    assert not np.array_equal(drawn[~kept], before[~kept])


@FULL
def test_margins_are_drawn_again_larger(draw, masked):
    how = Inpainting(margins=OutpaintingMargins(left_pixels=32), mask_blur_pixels=0)
    drawn = draw(
        **SMALL, picture=masked["picture"], inpainting=how, second_pass=again()
    ).pixels[0]
    assert drawn.shape == (LARGE, LARGE * 3 // 2, 3)


def test_a_unet_that_takes_masks_is_shown_what_is_kept_larger(draw, masked, folders):
    own = {"model_id": "tiny-9", "model_path": folders[9], "inpainting": HARD}
    drawn = [
        last(draw(**SMALL, **masked, **own, second_pass=again(strength=strength))).latents[0]
        for strength in (0.5, 0.75)
    ]
    assert {each.shape[-2:] for each in drawn} == {(LARGE // 8, LARGE // 8)}
    assert not torch.equal(*drawn)


@FULL
def test_a_unet_that_takes_masks_draws_both_as_one_after_the_other(
    draw,
    masked,
    prepared,
    folders,
):
    own = {"model_id": "tiny-9", "model_path": folders[9]}
    first = draw(**SMALL, **masked, **own, inpainting=HARD).pixels[0]
    mask = prepared(enlarged(np.asarray(hole())))
    then = draw(
        width=LARGE,
        height=LARGE,
        steps=4,
        picture=prepared(enlarged(first)),
        mask=mask,
        inpainting=replace(HARD, strength=0.5),
        **own,
    )
    at_once = draw(**SMALL, **masked, **own, inpainting=HARD, second_pass=again(upscale=PIXELS))
    assert torch.equal(last(at_once).latents[0], then.latents[0])


EVENLY_SPACED = (
    Scheduler.DPM_SOLVER_MULTISTEP,
    Scheduler.DPM_SOLVER_SINGLESTEP,
    Scheduler.UNIPC_MULTISTEP,
    Scheduler.DEIS_MULTISTEP,
    Scheduler.LCM,
    Scheduler.TCD,
)


@with_samplers("mode", HANDOVER, IMAGE_TO_IMAGE)
def test_a_refiner_works_in_the_hole_alone(
    draw,
    pipe,
    second,
    masked,
    mode,
    scheduler,
):
    handed = mode is HANDOVER
    # Of four steps that are spaced evenly from the very first timestep, none lies beyond 0.8.
    cut_at = 0.7 if scheduler in EVENLY_SPACED else 0.8
    drawn = draw(
        **SMALL,
        **masked,
        **using(mode=mode, switch_at=cut_at if handed else 0.6, steps=4),
        inpainting=HARD,
        scheduler=SchedulerSettings(scheduler),
    )
    kind = StableDiffusionXLInpaintPipeline
    both = {"mask_image": hole(), "width": SIDE, "height": SIDE}
    both["generator"] = torch.Generator("cpu").manual_seed(7)
    cut = {"denoising_end": cut_at} if handed else {}
    begun = pipe(kind, scheduler, image=painting(SIDE, SIDE), strength=0.7, **both, **cut)
    parts = second.components | OF_REFINERS
    how = {"denoising_start": cut_at} if handed else {"strength": 0.4}
    same(drawn, pipe(kind, scheduler, parts, image=begun[1], **both, **how))


@FULL
def test_after_a_unet_that_takes_masks_a_refiner_puts_the_picture_back(
    draw,
    prepared,
    pipeline,
    tmp_path,
):
    unet = pipeline.unet
    torch.manual_seed(5)
    config = dict(unet.config) | {"in_channels": 9}
    nine = diffusers.UNet2DConditionModel.from_config(config)
    parts = pipeline.components | {"unet": nine}
    StableDiffusionXLInpaintPipeline(**parts).save_pretrained(tmp_path / "nine")
    picture = painting(SIDE, SIDE)
    usual = {"picture": prepared(picture), "mask": prepared(hole()), "inpainting": HARD}
    wanted = draw(**SMALL, **usual).latents[0]
    for start in (HARD, replace(HARD, strength=1.0)):
        drawn = draw(
            **SMALL,
            **(usual | {"inpainting": start}),
            model_id="nine",
            model_path=tmp_path / "nine",
            **using(switch_at=0.8, steps=4),
        )
        # As another model keeps it, but for what the VAE leaves to chance.
        unlike = (drawn.latents[0] - wanted)[..., : SIDE // 32].abs().mean()
        assert unlike < 0.05, unlike


@with_samplers("mode", IMAGE_TO_IMAGE, HANDOVER)
def test_a_refiner_finishes_the_second_pass(
    draw,
    pipe,
    second,
    mode,
    scheduler,
):
    handed = mode is HANDOVER
    drawn = draw(
        **SMALL,
        **using(mode=mode, switch_at=0.7, steps=8),
        scheduler=SchedulerSettings(scheduler),
        second_pass=again(strength=0.75, steps=8),
    )
    first = pipe(StableDiffusionXLPipeline, scheduler, width=SIDE, height=SIDE)
    both: dict[str, Any] = {"generator": torch.Generator("cpu").manual_seed(7)}
    both["num_inference_steps"] = 8
    kind: Any = StableDiffusionXLImg2ImgPipeline
    cut = {"denoising_end": 0.7} if handed else {}
    begun = pipe(kind, scheduler, image=larger(first[1]), strength=0.75, **both, **cut)
    parts = second.components | OF_REFINERS
    how = {"denoising_start": 0.7} if handed else {"strength": 0.3}
    same(last(drawn), pipe(kind, scheduler, parts, image=begun[1], **both, **how))


def test_control_pictures_are_cut_out_as_the_part_that_is_drawn(
    draw,
    pipe,
    pipeline,
    random_net,
    file_of,
    masked,
):
    drawn = draw(
        **SMALL,
        **masked,
        **job_of(file_of, (random_net, edges(0, SIDE), {})),
        inpainting=replace(HARD, crop_margin_pixels=4),
    )
    wanted = pipe(
        StableDiffusionXLControlNetInpaintPipeline,
        Scheduler.EULER_DISCRETE,
        pipeline.components | {"controlnet": network(random_net)},
        image=painting(SIDE, SIDE),
        mask_image=hole(),
        control_image=edges(0, SIDE),
        controlnet_conditioning_scale=1.0,
        strength=0.7,
        width=SIDE,
        height=SIDE,
        padding_mask_crop=4,
    )
    same(drawn, wanted)


@FULL
def test_all_of_it_at_once_is_as_if_alone_and_leaves_nothing(
    draw,
    random_net,
    file_of,
    masked,
):
    before = draw(**SMALL).images[0].data
    net = (random_net, edges(0, SIDE), {})
    asked = with_larger(file_of, net, edges(1, LARGE))
    refining = using(switch_at=0.7, steps=8)
    refining["companions"] += asked.pop("companions")
    how = {
        "inpainting": HARD,
        "second_pass": again(upscale=PIXELS, strength=0.75, steps=8),
    }
    together = draw(**SMALL, **masked, **asked, **refining, **how, seeds=(7, 8))
    alone = draw(**SMALL, **masked, **asked, **refining, **how, seeds=(8,))
    assert together.images[1].data == alone.images[0].data
    assert draw(**SMALL).images[0].data == before
