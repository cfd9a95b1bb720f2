"""Pictures that start from a picture are those of diffusers' img2img pipelines, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from transformers import CLIPTextModel

from domains.errors import Cancelled, FailedPrecondition, Reason, Unavailable
from domains.inference.backends.encoding import to_image
from domains.inference.types import (
    DdimOptions,
    GuidanceSettings,
    ImageToImage,
    Scheduler,
    SchedulerSettings,
    SigmaSpacing,
    Toggle,
)
from domains.picture.backends.prepared import read_pixels
from domains.picture.types import PreparedPicture
from domains.session.types import Phase, PhaseStarted
from domains.values import DegradationKind
from tests.domains.inference.backends.conftest import own_share
from tests.domains.inference.backends.test_oracle import SPACED, SWITCHES, same
from tests.domains.inference.backends.test_sd1 import PROMPT, SIZE, loaded, tiny_pipeline
from tests.fakes.jobs import Listener, changed
from tests.libraries import OLD_DIFFUSERS

SMALL = {"width": 128, "height": 128}
TINY = {"width": 64, "height": 64}


def painting(width: int, height: int) -> Image.Image:
    """Colours that run into each other, and a disc."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / width, 255 * y / height
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2
    pixels = np.stack([red, green, np.where(disc, 220, 40)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[Image.Image], PreparedPicture]:
    """A picture as the front prepares it."""

    def call(image: Image.Image) -> PreparedPicture:
        data = image.tobytes()
        path = tmp_path / f"{image.width}x{image.height}.rgb"
        path.write_bytes(data)
        return PreparedPicture(path, *image.size, hashlib.sha256(data).hexdigest())

    return call


@pytest.fixture
def redraw(draw: Callable[..., Any], prepared: Callable[..., Any]) -> Callable[..., Any]:
    """Draw from the painting."""

    def call(strength: float = 0.6, **changes: Any) -> Any:
        size = {"width": 128, "height": 128} | {
            k: v for k, v in changes.items() if k in ("width", "height")
        }
        picture = prepared(painting(**size))
        start = ImageToImage(strength)
        return draw(picture=picture, image_to_image=start, **(size | changes))

    return call


def drawn_by(pipeline: Any, image: Image.Image, **arguments: Any) -> Any:
    last: list[torch.Tensor] = []

    def keep(_pipe: Any, _index: int, _timestep: Any, state: dict[str, Any]) -> Any:
        last[:] = [state["latents"].clone()]
        return state

    settings = {
        "image": image,
        "strength": 0.6,
        "guidance_scale": 6.0,
        "generator": torch.Generator("cpu").manual_seed(7),
    }
    images = pipeline(**(settings | arguments), callback_on_step_end=keep).images
    return np.asarray(images[0]), last[0]


@pytest.fixture
def expected(pipeline: Any, work: Any) -> Callable[..., Any]:
    """Pixels and final latents of the reference pipeline."""
    reference: Any = StableDiffusionXLImg2ImgPipeline(**pipeline.components)
    reference.set_progress_bar_config(disable=True)

    def call(
        scheduler: Scheduler = Scheduler.EULER_DISCRETE,
        options: dict[str, Any] | None = None,
        size: tuple[int, int] = (128, 128),
        **arguments: Any,
    ) -> Any:
        cls = getattr(diffusers, scheduler.value)
        reference.scheduler = cls.from_config(pipeline.scheduler.config, **(options or {}))
        usual = {"prompt": work.settings.prompt, "num_inference_steps": 4}
        usual |= own_share(scheduler)
        return drawn_by(reference, painting(*size), **(usual | arguments))

    return call


def test_a_picture_is_as_diffusers_draws_it(redraw, expected):
    same(redraw(steps=3, **TINY), expected(num_inference_steps=3, size=(64, 64)))


@pytest.mark.demonstration
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler(redraw, expected, scheduler):
    same(
        redraw(steps=5, scheduler=SchedulerSettings(scheduler)),
        expected(scheduler, num_inference_steps=5),
    )


@pytest.mark.demonstration
@pytest.mark.parametrize(("scheduler", "spacing"), SPACED)
def test_every_spacing(redraw, expected, scheduler, spacing):
    same(
        redraw(steps=4, scheduler=SchedulerSettings(scheduler, spacing), **TINY),
        expected(scheduler, SWITCHES[spacing], size=(64, 64)),
    )


@pytest.mark.demonstration
@pytest.mark.parametrize("strength", [0.25, 0.5, 0.99, 1.0])
@pytest.mark.parametrize(
    "scheduler",
    [Scheduler.HEUN_DISCRETE, Scheduler.DPM_SOLVER_SINGLESTEP, Scheduler.LMS_DISCRETE],
)
def test_every_strength(redraw, expected, scheduler, strength):
    same(
        redraw(strength, scheduler=SchedulerSettings(scheduler), **TINY),
        expected(scheduler, strength=strength, size=(64, 64)),
    )


@pytest.mark.demonstration
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param({"negative_prompt": "pizza"}, {"negative_prompt": "pizza"}, id="negative"),
        pytest.param(
            {"guidance": GuidanceSettings(6.0, 0.7)}, {"guidance_rescale": 0.7}, id="rescale"
        ),
        pytest.param(
            {"guidance": GuidanceSettings(1.0)}, {"guidance_scale": 1.0}, id="no guidance"
        ),
        pytest.param({"clip_skip": 1}, {"clip_skip": 1}, id="clip skip"),
        pytest.param({"width": 136, "height": 72}, {"size": (136, 72)}, id="odd size"),
        pytest.param(
            {"scheduler": SchedulerSettings(Scheduler.DDIM, ddim=DdimOptions(0.7))},
            {"scheduler": Scheduler.DDIM, "eta": 0.7},
            id="fresh noise",
        ),
    ],
)
def test_settings(redraw, expected, ours, theirs):
    same(redraw(**ours), expected(**theirs))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-sd1"
    tiny_pipeline().save_pretrained(path)
    return path


@pytest.fixture
def expected_of_sd1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    if not OLD_DIFFUSERS:  # with it came a transformers that has one
        # Where the pipeline looks for the last norm, as older versions of transformers had it.
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda it: it), raising=False)
    own = loaded(folder)
    reference: Any = StableDiffusionImg2ImgPipeline(
        **own.components, requires_safety_checker=False
    )
    reference.set_progress_bar_config(disable=True)

    def call(scheduler: Scheduler) -> Any:
        cls = getattr(diffusers, scheduler.value)
        reference.scheduler = cls.from_config(own.scheduler.config)
        usual = {"prompt": PROMPT, "num_inference_steps": 4, **own_share(scheduler)}
        return drawn_by(reference, painting(SIZE, SIZE), **usual)

    return call


@pytest.mark.demonstration
def test_every_scheduler_of_sd1(redraw, expected_of_sd1, folder):
    for scheduler in Scheduler:
        ours = redraw(
            model_id=folder.name,
            model_path=folder,
            prompt=PROMPT,
            width=SIZE,
            height=SIZE,
            scheduler=SchedulerSettings(scheduler),
        )
        same(ours, expected_of_sd1(scheduler))


def test_each_image_is_drawn_as_if_alone(redraw):
    together = redraw(seeds=(7, 8), **TINY)
    for index, seed in enumerate((7, 8)):
        alone = redraw(seeds=(seed,), **TINY)
        assert torch.equal(together.latents[index], alone.latents[0])
        assert np.array_equal(together.pixels[index], alone.pixels[0])


def test_a_plain_picture_afterwards_is_the_same_as_before(draw, redraw):
    before = draw(**TINY)
    redraw(**TINY)
    assert draw(**TINY).images[0].data == before.images[0].data


def test_the_picture_is_encoded_once_and_its_steps_are_counted(redraw):
    drawn = redraw(0.5, steps=6, seeds=(1, 2), **TINY)
    phases = [event.phase for event in drawn.events if isinstance(event, PhaseStarted)]
    assert phases.count(Phase.PREPARING_INPUT) == 1
    assert phases.index(Phase.PREPARING_INPUT) < phases.index(Phase.DENOISING)
    told = [(step.image_index, step.step, step.steps) for step in drawn.steps]
    assert told == [(image, step, 3) for image in (0, 1) for step in (1, 2, 3)]
    assert drawn.report.timings.prepare_input > 0


@pytest.mark.parametrize(
    "scheduler", [Scheduler.HEUN_DISCRETE, Scheduler.KDPM2_ANCESTRAL_DISCRETE]
)
def test_steps_of_two_calls_are_counted_as_one(redraw, scheduler):
    drawn = redraw(0.5, steps=6, scheduler=SchedulerSettings(scheduler), **TINY)
    assert [(step.step, step.steps) for step in drawn.steps] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.demonstration
def test_previews_show_it(redraw):
    from domains.session.types import PreviewSettings

    drawn = redraw(previews=PreviewSettings(every_steps=1), **TINY)
    assert len(drawn.previews) == len(drawn.steps) == 2


@pytest.mark.demonstration
def test_the_more_strength_the_less_is_left(redraw):
    """The picture itself is compared, after it went through the VAE."""
    original = np.asarray(painting(128, 128)).astype(float)
    errors = [
        float(((redraw(strength, steps=10).pixels[0] - original) ** 2).mean())
        for strength in (0.1, 0.3, 0.6, 0.9)
    ]
    assert errors == sorted(errors)
    assert errors[-1] > 4 * errors[0]


def test_a_stop_comes_before_and_after_the_picture_is_encoded(engine, work, prepared):
    job = changed(
        work,
        picture=prepared(painting(128, 128)),
        image_to_image=ImageToImage(),
        **SMALL,
    )
    for phase in (Phase.ENCODING_TEXT, Phase.PREPARING_INPUT):
        heard = Listener()

        def check_stop(heard: Listener = heard, phase: Phase = phase) -> None:
            if PhaseStarted(phase) in heard.events:
                raise Cancelled("stopped")

        heard.check_stop = check_stop
        with pytest.raises(Cancelled):
            engine.generate(job, heard)
        begun = [event.phase for event in heard.events if isinstance(event, PhaseStarted)]
        assert begun[-1] is phase


def test_it_is_encoded_in_tiles_where_that_is_asked_for(redraw):
    drawn = redraw(steps=2, width=576, height=64, vae_tiling=Toggle.ON)
    details = [
        found.detail
        for found in drawn.report.degradations
        if found.kind is DegradationKind.VAE_TILED
    ]
    assert details == [
        "Encoded in tiles, as the request asks.",
        "Decoded in tiles, as the request asks.",
    ]


def test_a_picture_that_went_away_is_told(engine, work, prepared):
    picture = prepared(painting(128, 128))
    job = changed(work, picture=picture, image_to_image=ImageToImage(), **SMALL)
    picture.path.write_bytes(picture.path.read_bytes()[:-1])
    with pytest.raises(Unavailable) as lost:
        engine.generate(job, Listener())
    assert lost.value.reason is Reason.STORAGE_UNAVAILABLE
    picture.path.unlink()
    with pytest.raises(Unavailable):
        engine.generate(job, Listener())


def test_pixels_are_read_as_diffusers_reads_them(prepared):
    image = painting(40, 24)
    theirs = VaeImageProcessor().preprocess(image)
    assert torch.equal(to_image(read_pixels(prepared(image))), theirs)


def test_an_encoder_that_overflows_is_told(redraw, engine):
    vae = engine._model.networks["vae"]
    weight = vae.quant_conv.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.inf)
    try:
        with pytest.raises(FailedPrecondition) as refused:
            redraw()
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert refused.value.reason is Reason.NON_FINITE_OUTPUT
    assert refused.value.metadata["stage"] == "preparing-input"


def test_the_text_in_the_picture_tells_strength_and_picture(redraw):
    from domains.inference.backends.parameters import full_text, shared_text

    assert SigmaSpacing.MODEL  # the settings' own defaults are left out
    settings = changed_settings()
    assert "Denoising strength: 0.45" in shared_text(settings, 7)
    assert '"strength": 0.45' in full_text(settings, 7, data_types=())
    assert "5" * 64 in full_text(settings, 7, data_types=())


def changed_settings() -> Any:
    from domains.inference.types import GenerationSettings
    from domains.picture.types import PictureFile

    return GenerationSettings(
        prompt="a cat",
        width=256,
        height=256,
        seeds=(7,),
        scheduler=SchedulerSettings(Scheduler.DDIM),
        image_to_image=ImageToImage(0.45, image=PictureFile("5" * 64, artifact=False)),
    )
