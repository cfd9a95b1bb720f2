"""The engine's pictures are those of the reference pipeline, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from domains.inference.types import (
    ConditioningPoint,
    ConditioningSize,
    DdimOptions,
    GuidanceSettings,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SigmaSpacing,
    SizeConditioning,
)

SWITCHES = {
    SigmaSpacing.MODEL: {},
    SigmaSpacing.EVEN: {},
    SigmaSpacing.KARRAS: {"use_karras_sigmas": True},
    SigmaSpacing.EXPONENTIAL: {"use_exponential_sigmas": True},
    SigmaSpacing.BETA: {"use_beta_sigmas": True},
}
SPACED = [
    (scheduler, spacing)
    for scheduler in Scheduler
    for spacing in SigmaSpacing
    if spacing in scheduler.facts.spacings and SWITCHES[spacing]
]


def same(drawn: Any, expected: Any) -> None:
    pixels, latents = expected
    assert torch.equal(drawn.latents[0], latents)
    assert np.array_equal(drawn.pixels[0], pixels)


# A sixteenth of the native size shows the same in a fraction of the time.
SMALL = {"width": 64, "height": 64}


@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler(draw, reference, scheduler):
    same(
        draw(steps=6, scheduler=SchedulerSettings(scheduler), **SMALL),
        reference(scheduler, num_inference_steps=6, **SMALL),
    )


@pytest.mark.demonstration
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_at_the_native_size(draw, reference, scheduler):
    same(
        draw(steps=6, scheduler=SchedulerSettings(scheduler)),
        reference(scheduler, num_inference_steps=6),
    )


def usual(scheduler: Scheduler, spacing: SigmaSpacing) -> bool:
    """Each sampler with one spacing, and each spacing with one sampler. KDPM2's classes, which
    work out a thousand steps whenever one is made, are tried with the model's own alone."""
    if "KDPM2" in scheduler.value:
        return False
    return spacing is SigmaSpacing.KARRAS or scheduler is Scheduler.EULER_DISCRETE


@pytest.mark.parametrize(
    ("scheduler", "spacing"),
    [
        each if usual(*each) else pytest.param(*each, marks=pytest.mark.demonstration)
        for each in SPACED
    ],
)
def test_every_spacing(draw, reference, scheduler, spacing):
    settings = SchedulerSettings(scheduler, spacing)
    same(
        draw(steps=3, scheduler=settings, **SMALL),
        reference(scheduler, SWITCHES[spacing], num_inference_steps=3, **SMALL),
    )


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(
    "scheduler",
    [Scheduler.DPM_SOLVER_SINGLESTEP, Scheduler.HEUN_DISCRETE, Scheduler.LMS_DISCRETE],
)
def test_few_and_odd_steps(draw, reference, scheduler, steps):
    same(
        draw(steps=steps, width=64, height=64, scheduler=SchedulerSettings(scheduler)),
        reference(scheduler, num_inference_steps=steps, width=64, height=64),
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param({"negative_prompt": "pizza"}, {"negative_prompt": "pizza"}, id="negative"),
        pytest.param(
            {"sdxl": SdxlSettings(prompt_2="a robot")},
            {"prompt_2": "a robot"},
            id="second prompt",
        ),
        pytest.param(
            {"negative_prompt": "dog", "sdxl": SdxlSettings(negative_prompt_2="cat")},
            {"negative_prompt": "dog", "negative_prompt_2": "cat"},
            id="second negative",
        ),
        pytest.param({"prompt": ""}, {"prompt": ""}, id="empty prompt"),
        pytest.param({"prompt": "apple " * 90}, {"prompt": "apple " * 90}, id="long prompt"),
        pytest.param({"clip_skip": 1}, {"clip_skip": 1}, id="clip skip"),
        pytest.param(
            {"guidance": GuidanceSettings(6.0, 0.7)}, {"guidance_rescale": 0.7}, id="rescale"
        ),
        pytest.param(
            {"guidance": GuidanceSettings(1.0)}, {"guidance_scale": 1.0}, id="no guidance"
        ),
        pytest.param(
            {"guidance": GuidanceSettings(0.0)}, {"guidance_scale": 0.0}, id="zero guidance"
        ),
        pytest.param({"width": 64, "height": 96}, {"width": 64, "height": 96}, id="portrait"),
        pytest.param({"width": 136, "height": 72}, {"width": 136, "height": 72}, id="odd size"),
    ],
)
def test_every_setting(draw, reference, ours, theirs):
    same(draw(**SMALL | ours), reference(**SMALL | theirs))


TOLD = SizeConditioning(
    ConditioningSize(1024, 768), ConditioningSize(512, 640), ConditioningPoint(left=16, top=8)
)
TOLD_THEM = {
    "original_size": (768, 1024),
    "target_size": (640, 512),
    "crops_coords_top_left": (8, 16),
}
DRAWN = (SMALL["height"], SMALL["width"])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(SdxlSettings(size=TOLD), TOLD_THEM, id="for both prompts"),
        pytest.param(
            SdxlSettings(negative_size=SizeConditioning(crop_top_left=ConditioningPoint(4, 0))),
            {
                "negative_original_size": DRAWN,
                "negative_target_size": DRAWN,
                "negative_crops_coords_top_left": (0, 4),
            },
            id="for the negative one",
        ),
        pytest.param(
            SdxlSettings(
                size=TOLD,
                negative_size=SizeConditioning(ConditioningSize(), ConditioningSize(64, 32)),
            ),
            TOLD_THEM | {"negative_original_size": (0, 0), "negative_target_size": (32, 64)},
            id="for each its own",
        ),
    ],
)
def test_sizes_that_the_model_is_told(draw, reference, ours, theirs):
    same(draw(sdxl=ours, **SMALL), reference(**SMALL, **theirs))


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_eta_of_ddim(draw, reference, eta):
    settings = SchedulerSettings(Scheduler.DDIM, ddim=DdimOptions(eta))
    same(draw(scheduler=settings, **SMALL), reference(Scheduler.DDIM, eta=eta, **SMALL))


def test_the_greatest_seed(draw, reference):
    seed = 2**64 - 1
    same(
        draw(seeds=(seed,), steps=1, **SMALL),
        reference(
            num_inference_steps=1, generator=torch.Generator().manual_seed(seed), **SMALL
        ),
    )
