"""SD 2.x, which predicts velocities: from a picture, in a hole and along a control picture it
draws what diffusers' pipelines draw, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)
from transformers import CLIPTextModel

from domains.inference.types import ImageToImage, Inpainting, Scheduler, SchedulerSettings
from tests.domains.inference.backends.conftest import own_share
from tests.domains.inference.backends.test_control_nets import (
    drawn_by,
    edges,
    job_of,
    network,
    saved,
)
from tests.domains.inference.backends.test_control_nets import file_of as file_of
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_inpainting import hole
from tests.domains.inference.backends.test_inpainting import prepared as prepared
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_sd1 import PROMPT, loaded
from tests.domains.inference.backends.test_single_files import small_sd2
from tests.libraries import OLD_DIFFUSERS

EDGE = 64
STEPS = 3
USUAL = Scheduler.EULER_ANCESTRAL_DISCRETE
SCHEDULERS = [
    each if each is USUAL else pytest.param(each, marks=pytest.mark.demonstration)
    for each in Scheduler
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and a ControlNet for it."""
    root = tmp_path_factory.mktemp("models")
    whole = small_sd2()
    whole.save_pretrained(root / "tiny-sd2")
    return root / "tiny-sd2", saved(root / "tiny-net", ControlNetModel.from_unet(whole.unet))


@pytest.fixture(scope="module")
def own(models: tuple[Path, Path]) -> Any:
    return loaded(models[0])


@pytest.fixture
def expected(own: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Pixels and final latents of a reference pipeline of that class."""
    if not OLD_DIFFUSERS:  # with it came a transformers that has one
        # Where the pipeline looks for the last norm, as older versions of transformers had it.
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda it: it), raising=False)

    def call(kind: Any, scheduler: Scheduler, **arguments: Any) -> Any:
        parts = {name: arguments.pop(name) for name in ("controlnet",) if name in arguments}
        reference = kind(**own.components, **parts, requires_safety_checker=False)
        cls = getattr(diffusers, scheduler.value)
        reference.scheduler = cls.from_config(own.scheduler.config)
        usual = {"prompt": PROMPT, "num_inference_steps": STEPS, **own_share(scheduler)}
        return drawn_by(reference, **(usual | arguments))

    return call


@pytest.fixture
def sd2(draw: Callable[..., Any], models: tuple[Path, Path]) -> Callable[..., Any]:
    def call(scheduler: Scheduler, **changes: Any) -> Any:
        return draw(
            model_id=models[0].name,
            model_path=models[0],
            prompt=PROMPT,
            width=EDGE,
            height=EDGE,
            steps=STEPS,
            scheduler=SchedulerSettings(scheduler),
            **changes,
        )

    return call


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_from_a_picture(sd2, expected, prepared, scheduler: Scheduler) -> None:
    picture = painting(EDGE, EDGE)
    ours = sd2(scheduler, picture=prepared(picture), image_to_image=ImageToImage(0.7))
    theirs = expected(StableDiffusionImg2ImgPipeline, scheduler, image=picture, strength=0.7)
    same(ours, theirs)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_in_a_hole(sd2, expected, prepared, scheduler: Scheduler) -> None:
    picture, mask = painting(EDGE, EDGE), hole(EDGE)
    ours = sd2(
        scheduler,
        picture=prepared(picture),
        mask=prepared(mask),
        inpainting=Inpainting(strength=0.7, mask_blur_pixels=0),
    )
    theirs = expected(
        StableDiffusionInpaintPipeline,
        scheduler,
        image=picture,
        mask_image=mask,
        strength=0.7,
        width=EDGE,
        height=EDGE,
    )
    same(ours, theirs)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_along_a_control_picture(sd2, expected, file_of, models, scheduler: Scheduler) -> None:
    control = edges(edge=EDGE)
    ours = sd2(scheduler, **job_of(file_of, (models[1], control, {"end": 0.7})))
    theirs = expected(
        StableDiffusionControlNetPipeline,
        scheduler,
        image=control,
        controlnet=network(models[1]),
        control_guidance_end=0.7,
        width=EDGE,
        height=EDGE,
    )
    same(ours, theirs)
