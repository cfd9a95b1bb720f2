"""Drawing again, larger: as diffusers' pipelines one after the other, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from msgspec.structs import replace
from PIL import Image
from torch.nn import functional

from domains.errors import Cancelled
from domains.inference.backends.loader import Loader
from domains.inference.backends.parameters import full_text, shared_text
from domains.inference.types import (
    DdimOptions,
    GuidanceSettings,
    ImageToImage,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SecondPassUpscale,
    SeedVariation,
)
from domains.session.types import Phase, PhaseStarted, PreviewSettings, StepFinished
from domains.values import DegradationKind
from tests.domains.inference.backends.conftest import own_share
from tests.domains.inference.backends.test_image_to_image import (
    drawn_by,
    expected_of_sd1,  # noqa: F401
    folder,  # noqa: F401
    painting,
    prepared,  # noqa: F401
)
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_pausing import (
    Turns,
    after,
    in_phase,
    small,  # noqa: F401
    whole,
)
from tests.domains.inference.backends.test_sd1 import PROMPT, loaded
from tests.fakes.jobs import Listener, changed

SMALL = {"width": 64, "height": 64}
# What a model enlarges is in `test_second_pass_by_model`.
UPSCALES = [SecondPassUpscale.LATENT, SecondPassUpscale.PIXELS]
# The longer way guards the shorter one.
ONE_OF_THEM = [
    pytest.param(SecondPassUpscale.LATENT, marks=pytest.mark.demonstration),
    SecondPassUpscale.PIXELS,
]


def again(**changes: Any) -> SecondPass:
    """A resolved second pass: twice as large, in four steps of which two are done."""
    usual: dict[str, Any] = {"strength": 0.5, "steps": 4, "guidance": GuidanceSettings(6.0)}
    return SecondPass(**(usual | changes))


@pytest.fixture
def enlarge(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Draw twice; of the second pass alone are the last latents."""

    def call(second: SecondPass | None = None, **changes: Any) -> Any:
        drawn = draw(second_pass=second or again(), **(SMALL | changes))
        drawn.latents[:] = drawn.latents[-1:]
        return drawn

    return call


def one_after_the_other(
    first: Any,
    second: Any,
    upscale: SecondPassUpscale,
    size: tuple[int, int],
    before: dict[str, Any],
    then: dict[str, Any],
) -> Any:
    """A text-to-image pipeline, an enlargement by hand, an image-to-image pipeline."""
    latent = upscale is SecondPassUpscale.LATENT
    generator = torch.Generator("cpu").manual_seed(7)
    drawn = first(
        **before, generator=generator, output_type="latent" if latent else "pil"
    ).images
    if latent:
        edges = (size[1] // 8, size[0] // 8)
        start = functional.interpolate(drawn, size=edges, mode="bilinear")
    else:
        start = drawn[0].resize(size, Image.Resampling.LANCZOS)
    return drawn_by(second, start, **then)


@pytest.fixture
def expected(pipeline: Any, work: Any) -> Callable[..., Any]:
    reference: Any = StableDiffusionXLImg2ImgPipeline(**pipeline.components)
    reference.set_progress_bar_config(disable=True)

    def call(
        upscale: SecondPassUpscale,
        scheduler: Scheduler = Scheduler.EULER_DISCRETE,
        size: tuple[int, int] = (128, 128),
        then: dict[str, Any] | None = None,
        **before: Any,
    ) -> Any:
        cls = getattr(diffusers, scheduler.value)
        own = pipeline.scheduler
        first = {
            "num_inference_steps": 4,
            "guidance_scale": 6.0,
            "prompt": work.settings.prompt,
        }
        usual = {"num_inference_steps": 4, "strength": 0.5, "prompt": work.settings.prompt}
        try:
            pipeline.scheduler = cls.from_config(own.config)
            reference.scheduler = cls.from_config(own.config)
            return one_after_the_other(
                pipeline,
                reference,
                upscale,
                size,
                first | own_share(scheduler) | SMALL | before,
                usual | own_share(scheduler) | (then or {}),
            )
        finally:
            pipeline.scheduler = own

    return call


@pytest.mark.parametrize("upscale", UPSCALES)
def test_it_is_what_two_pipelines_draw(enlarge, expected, upscale):
    same(enlarge(again(upscale=upscale)), expected(upscale))


@pytest.mark.demonstration
@pytest.mark.parametrize("upscale", UPSCALES)
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler(enlarge, expected, scheduler, upscale):
    drawn = enlarge(again(upscale=upscale), scheduler=SchedulerSettings(scheduler))
    same(drawn, expected(upscale, scheduler))


@pytest.mark.demonstration
@pytest.mark.parametrize("upscale", UPSCALES)
@pytest.mark.parametrize(
    ("second", "ours", "theirs"),
    [
        pytest.param({"scale": 1.5}, {}, {"size": (96, 96)}, id="scale"),
        pytest.param(
            {"scale": 1.3},
            {"width": 104, "height": 72},
            {"size": (136, 96), "width": 104, "height": 72},
            id="rounded",
        ),
        pytest.param({"scale": 1.0}, {}, {"size": (64, 64)}, id="as large"),
        pytest.param({"strength": 1.0}, {}, {"then": {"strength": 1.0}}, id="strength"),
        pytest.param({"steps": 7}, {}, {"then": {"num_inference_steps": 7}}, id="steps"),
        pytest.param(
            {"guidance": GuidanceSettings(3.0, 0.6)},
            {},
            {"then": {"guidance_scale": 3.0, "guidance_rescale": 0.6}},
            id="guidance",
        ),
        pytest.param(
            {"guidance": GuidanceSettings(1.0)},
            {"negative_prompt": "pizza"},
            {"negative_prompt": "pizza", "then": {"guidance_scale": 1.0}},
            id="not guided",
        ),
        pytest.param(
            {"guidance": GuidanceSettings(5.0)},
            {"guidance": GuidanceSettings(1.0), "negative_prompt": "pizza"},
            {
                "guidance_scale": 1.0,
                "then": {"guidance_scale": 5.0, "negative_prompt": "pizza"},
            },
            id="guided alone",
        ),
        pytest.param(
            {},
            {"scheduler": SchedulerSettings(Scheduler.DDIM, ddim=DdimOptions(0.7))},
            {"scheduler": Scheduler.DDIM, "eta": 0.7, "then": {"eta": 0.7}},
            id="fresh noise",
        ),
    ],
)
def test_settings(enlarge, expected, upscale, second, ours, theirs):
    same(enlarge(again(upscale=upscale, **second), **ours), expected(upscale, **theirs))


@pytest.mark.demonstration
@pytest.mark.parametrize("upscale", UPSCALES)
def test_sd1(enlarge, expected_of_sd1, folder, upscale):  # noqa: F811
    own = loaded(folder)
    own.set_progress_bar_config(disable=True)
    second: Any = StableDiffusionImg2ImgPipeline(
        **own.components, requires_safety_checker=False
    )
    second.set_progress_bar_config(disable=True)
    usual = {"prompt": PROMPT, "num_inference_steps": 4, "guidance_scale": 6.0}
    then = usual | {"strength": 0.5}
    theirs = one_after_the_other(own, second, upscale, (128, 128), usual | SMALL, then)
    ours = enlarge(
        again(upscale=upscale), model_id=folder.name, model_path=folder, prompt=PROMPT
    )
    same(ours, theirs)


def test_pixels_are_as_image_to_image_of_the_enlarged_picture(draw, enlarge, prepared):  # noqa: F811
    """A second pass is what a client gets who asks for both one after the other."""
    variation = SeedVariation(11, 0.2)
    first = draw(**SMALL, variation=variation).pixels[0]
    larger = Image.fromarray(first).resize((128, 128), Image.Resampling.LANCZOS)
    then = draw(
        width=128,
        height=128,
        picture=prepared(larger),
        image_to_image=ImageToImage(0.5),
        variation=variation,
    )
    at_once = enlarge(again(upscale=SecondPassUpscale.PIXELS), variation=variation)
    assert torch.equal(at_once.latents[-1], then.latents[-1])


def test_it_may_begin_from_a_picture(draw, enlarge, prepared):  # noqa: F811
    picture, start = prepared(painting(64, 64)), ImageToImage(0.5)
    redrawn = draw(**SMALL, picture=picture, image_to_image=start).pixels[0]
    larger = Image.fromarray(redrawn).resize((128, 128), Image.Resampling.LANCZOS)
    then = draw(
        width=128, height=128, picture=prepared(larger), image_to_image=ImageToImage(0.5)
    )
    second = again(upscale=SecondPassUpscale.PIXELS)
    at_once = enlarge(second, picture=picture, image_to_image=start)
    assert torch.equal(at_once.latents[-1], then.latents[-1])


@pytest.mark.parametrize("upscale", ONE_OF_THEM)
def test_steps_phases_and_sizes_are_told_for_each_picture(enlarge, engine, work, upscale):
    second = again(upscale=upscale, steps=6)
    drawn = enlarge(second, seeds=(1, 2), previews=PreviewSettings(every_steps=1))
    told = [(step.image_index, step.step, step.steps) for step in drawn.steps]
    passes = [(step, 4) for step in (1, 2, 3, 4)] + [(step, 3) for step in (1, 2, 3)]
    assert told == [(image, *step) for image in (0, 1) for step in passes]
    phases = [event.phase for event in drawn.events if isinstance(event, PhaseStarted)]
    between = [Phase.PREPARING_INPUT] if upscale is SecondPassUpscale.PIXELS else []
    each = [
        Phase.DENOISING,
        *between,
        Phase.SECOND_PASS,
        Phase.DECODING,
        Phase.ENCODING_IMAGE,
    ]
    assert phases[-2 * len(each) :] == [*each, *each]
    assert phases.count(Phase.ENCODING_TEXT) == 1
    assert bool(drawn.report.timings.prepare_input) == bool(between)
    assert [(image.width, image.height) for image in drawn.images] == [(128, 128)] * 2
    assert {(one.width, one.height) for one in drawn.previews} == {(64, 64), (128, 128)}


@pytest.mark.parametrize("upscale", ONE_OF_THEM)
def test_each_image_is_drawn_as_if_alone_and_nothing_is_left_behind(draw, enlarge, upscale):
    before = draw(**SMALL).images[0].data
    second = again(upscale=upscale)
    together = enlarge(second, seeds=(7, 8))
    for index, seed in enumerate((7, 8)):
        alone = enlarge(second, seeds=(seed,))
        assert alone.images[0].data == together.images[index].data
    assert draw(**SMALL).images[0].data == before


def marks_of(heard: Listener) -> list[Phase | int]:
    """Phases and steps in their order, from the prompts on."""
    found = [
        event.phase if isinstance(event, PhaseStarted) else event.step
        for event in heard.events
        if isinstance(event, PhaseStarted | StepFinished)
    ]
    return found[found.index(Phase.ENCODING_TEXT) :] if Phase.ENCODING_TEXT in found else []


@pytest.mark.parametrize("upscale", ONE_OF_THEM)
def test_a_stop_comes_at_every_step_and_around_the_enlargement(engine, work, upscale):
    job = changed(work, second_pass=again(upscale=upscale), **SMALL)
    undisturbed = Listener()
    engine.generate(job, undisturbed)
    marks = marks_of(undisturbed)
    second = marks.index(Phase.SECOND_PASS)
    for until in range(second - 1, second + 2):
        heard = Listener()

        def check_stop(heard: Listener = heard, until: int = until) -> None:
            if len(marks_of(heard)) > until:
                raise Cancelled("stopped")

        heard.check_stop = check_stop
        with pytest.raises(Cancelled):
            engine.generate(job, heard)
        assert marks_of(heard) == marks[: until + 1]


@pytest.mark.parametrize("upscale", ONE_OF_THEM)
def test_a_picture_paused_in_any_pass_comes_out_the_same(engine, small, upscale):  # noqa: F811
    """What lies between the passes is done again."""
    scheduler = SchedulerSettings(Scheduler.EULER_ANCESTRAL_DISCRETE)
    second = again(scale=1.5, upscale=upscale)
    job = replace(
        small, settings=replace(small.settings, scheduler=scheduler, second_pass=second)
    )
    turns = Turns(job)
    for pause in (after(2), in_phase(Phase.SECOND_PASS, 0), after(1)):
        turns.pause(engine, pause)
    assert turns.job.kept_steps == 5
    left = turns.finish(engine)
    assert [
        (step.step, step.steps) for step in left.events if isinstance(step, StepFinished)
    ] == [(2, 2)]
    assert [image.data for image in turns.images] == whole(engine, job)


def test_room_is_made_for_the_larger_picture(engine, work, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Loader, "make_room_for_picture", lambda _self, _vae, *size: asked.append(size)
    )
    engine.generate(changed(work, second_pass=again(scale=1.5), **SMALL), Listener())
    assert asked == [(96, 96)]


def test_the_text_in_the_picture_tells_it(work):
    settings = changed(
        work,
        second_pass=again(scale=1.5, strength=0.45),
        variation=SeedVariation(11, 0.3),
        seamless_vertically=True,
    ).settings
    text = shared_text(settings, 7)
    for part in (
        "Size: 256x256",
        "Denoising strength: 0.45",
        "Hires upscale: 1.5",
        "Hires steps: 4",
        "Hires upscaler: Latent",
        "Variation seed: 11",
        "Variation seed strength: 0.3",
        "Tiling: True",
    ):
        assert part in text
    entries = json.loads(full_text(settings, 7, data_types=()))
    assert entries["second_pass"]["upscale"] == "latent"
    assert entries["variation"] == {"seed": 11, "strength": 0.3}
    assert entries["seamless_vertically"] is True


def test_lost_tokens_of_what_the_second_pass_alone_reads_are_told(enlarge):
    """Without guidance the first reads no negative prompt."""
    unguided = {"guidance": GuidanceSettings(1.0), "negative_prompt": "apple " * 90}
    (told,) = enlarge(steps=1, **unguided).report.degradations
    assert told.kind is DegradationKind.PROMPT_TRUNCATED
    both = again(guidance=GuidanceSettings(1.0))
    assert enlarge(both, steps=1, **unguided).report.degradations == ()
