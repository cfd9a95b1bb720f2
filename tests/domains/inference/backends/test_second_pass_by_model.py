"""Drawing again what an upscaler has enlarged."""

from __future__ import annotations

import json
from dataclasses import replace as with_other
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline
from msgspec.structs import replace
from PIL import Image
from safetensors.torch import load_file, save_file

from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.backends.upscaling import enlarging
from domains.chain.backends.upscaling.compact import Compact
from domains.chain.backends.upscaling.loading import load_upscaler
from domains.chain.types import UpscalerModel
from domains.errors import Cancelled, FailedPrecondition, Reason, ResourceExhausted
from domains.inference.backends.by_upscaler import ByUpscaler
from domains.inference.backends.parameters import full_text, shared_text
from domains.inference.backends.seamless import NO_EDGES, Edges
from domains.inference.backends.together import Together
from domains.inference.jobs import Companion, GenerationJob
from domains.inference.types import (
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SecondPassUpscale,
)
from domains.model.types import ModelType
from domains.session.types import Phase, PhaseStarted, PieceFinished, StepFinished
from domains.values import DegradationKind, ModelPlace
from tests.domains.chain.backends.upscaling.files import MODELS, small_compact
from tests.domains.inference.backends.test_image_to_image import drawn_by, painting
from tests.domains.inference.backends.test_inpainting import prepared  # noqa: F401
from tests.domains.inference.backends.test_oracle import same
from tests.domains.inference.backends.test_pausing import (
    Turns,
    after,
    images,
    in_phase,
    small,  # noqa: F401
    whole,
)
from tests.domains.inference.backends.test_shared_passes import assert_alike
from tests.fakes.jobs import Listener, changed

FILE = MODELS / "compact-2x.safetensors"
NAME = "compact-2x"
SMALL = {"width": 64, "height": 64}
CPU = torch.device("cpu")


def again(**changes: Any) -> SecondPass:
    """A resolved second pass: twice as large, in four steps of which two are done."""
    usual: dict[str, Any] = {
        "upscale": SecondPassUpscale.MODEL,
        "strength": 0.5,
        "steps": 4,
        "guidance": GuidanceSettings(6.0),
        "postprocessor_id": NAME,
    }
    return SecondPass(**(usual | changes))


def using(path: Path = FILE, **second: Any) -> dict[str, Any]:
    """What a job needs for it."""
    upscaler = Companion(NAME, ModelType.UPSCALER, ModelPlace.of(path))
    return {"second_pass": again(**second), "companions": (upscaler,)}


def network_alone(image: Image.Image) -> Image.Image:
    """The picture twice as large, by the network with nothing around it."""
    tensors = load_file(FILE)
    depth = max(int(name.split(".")[1]) for name in tensors) // 2 - 1
    features, channels = tensors["body.0.weight"].shape[:2]
    network = Compact(
        channels=channels,
        features=features,
        depth=depth,
        factor=2,
        slopes=tensors["body.1.weight"].numel(),
    ).float()
    network.load_state_dict(tensors)
    given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        levels = (network(given)[0] * 255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("scale", "size"),
    [
        pytest.param(2.0, (128, 128), id="as large as it makes it"),
        pytest.param(1.5, (96, 96), id="made smaller afterwards"),
    ],
)
def test_it_is_what_two_pipelines_and_an_upscaler_between_draw(
    draw: Any, pipeline: Any, work: GenerationJob, scale: float, size: tuple[int, int]
) -> None:
    second: Any = StableDiffusionXLImg2ImgPipeline(**pipeline.components)
    second.set_progress_bar_config(disable=True)
    own = pipeline.scheduler
    asked = {"prompt": work.settings.prompt, "num_inference_steps": 4, "guidance_scale": 6.0}
    try:
        pipeline.scheduler = EulerDiscreteScheduler.from_config(own.config)
        second.scheduler = EulerDiscreteScheduler.from_config(own.config)
        generator = torch.Generator("cpu").manual_seed(7)
        first = pipeline(**asked, **SMALL, generator=generator).images[0]
        larger = network_alone(first)
        if larger.size != size:
            larger = larger.resize(size, Image.Resampling.LANCZOS)
        theirs = drawn_by(second, larger, **(asked | {"strength": 0.5}))
    finally:
        pipeline.scheduler = own
    drawn = draw(**SMALL, **using(scale=scale))
    drawn.latents[:] = drawn.latents[-1:]
    same(drawn, theirs)


def test_what_is_made_of_tiles_is_as_the_step_of_a_chain_makes_it(
    draw: Any,
    prepared: Any,  # noqa: F811
) -> None:
    """It has any shape, and ends where the size is rounded to."""
    size = {"width": 264, "height": 72}  # two tiles
    first = draw(**size, steps=2).pixels[0]
    larger = enlarging.enlarge_to(
        load_upscaler(ModelPlace.of(FILE), CPU), first, (344, 96), 192, 16, lambda *_: None
    )
    then = draw(
        width=344,
        height=96,
        picture=prepared(Image.fromarray(larger)),
        image_to_image=ImageToImage(0.5),
    )
    at_once = draw(**size, steps=2, **using(scale=1.3))
    assert torch.equal(at_once.latents[-1], then.latents[-1])
    told = [(e.done, e.total) for e in at_once.events if isinstance(e, PieceFinished)]
    assert told == [(1, 2), (2, 2)]


def test_phases_and_tiles_are_told_for_each_picture(engine: Any, work: GenerationJob) -> None:
    engine.unload()
    heard = Listener()
    report = engine.generate(changed(work, **SMALL, **using(), seeds=(1, 2)), heard)
    phases = [
        (event.phase, event.image_index)
        for event in heard.events
        if isinstance(event, PhaseStarted)
    ]
    assert phases[:2] == [(Phase.LOADING_MODEL, None)] * 2, "the checkpoint's and its own"
    of_each = (
        Phase.DENOISING,
        Phase.PREPARING_INPUT,
        Phase.SECOND_PASS,
        Phase.DECODING,
        Phase.ENCODING_IMAGE,
    )
    assert phases[-10:] == [(phase, index) for index in (0, 1) for phase in of_each]
    tiles = [event for event in heard.events if isinstance(event, PieceFinished)]
    assert [(e.image_index, e.done, e.total) for e in tiles] == [(0, 1, 1), (1, 1, 1)]
    assert report.timings.prepare_input > 0
    assert {part.component for part in engine.held() if part.model_id == NAME} == {"upscaler"}


def test_each_image_is_drawn_as_if_alone_and_nothing_is_left_behind(draw: Any) -> None:
    before = draw(**SMALL).images[0].data
    together = draw(**SMALL, **using(), seeds=(7, 8))
    for index, seed in enumerate((7, 8)):
        alone = draw(**SMALL, **using(), seeds=(seed,))
        assert alone.images[0].data == together.images[index].data
    assert draw(**SMALL).images[0].data == before


def test_a_stop_comes_between_two_tiles(engine: Any, work: GenerationJob) -> None:
    heard = Listener()

    def check_stop() -> None:
        if any(isinstance(event, PieceFinished) for event in heard.events):
            raise Cancelled("stopped")

    heard.check_stop = check_stop
    job = changed(work, width=264, height=64, steps=1, **using())
    with pytest.raises(Cancelled):
        engine.generate(job, heard)
    tiles = [event.done for event in heard.events if isinstance(event, PieceFinished)]
    assert tiles == [1]
    phases = [event.phase for event in heard.events if isinstance(event, PhaseStarted)]
    assert Phase.SECOND_PASS not in phases


def test_a_picture_paused_at_a_tile_or_in_a_pass_comes_out_the_same(
    engine: Any,
    small: GenerationJob,  # noqa: F811
) -> None:
    """What lies between the passes is done again."""
    parts = using(scale=1.5)
    scheduler = SchedulerSettings(Scheduler.EULER_ANCESTRAL_DISCRETE)
    settings = replace(
        small.settings, scheduler=scheduler, second_pass=parts["second_pass"], width=264
    )
    job = replace(small, settings=settings, companions=parts["companions"])
    turns = Turns(job)

    def at_a_tile(events: list[Any]) -> bool:
        return any(isinstance(event, PieceFinished) for event in events)

    for pause in (after(2), at_a_tile, in_phase(Phase.SECOND_PASS, 0), after(1)):
        turns.pause(engine, pause)
    assert turns.job.kept_steps == 5
    left = turns.finish(engine)
    assert [
        (step.step, step.steps) for step in left.events if isinstance(step, StepFinished)
    ] == [(2, 2)]
    assert [image.data for image in turns.images] == whole(engine, job)


def test_another_file_takes_up_nothing(
    engine: Any,
    small: GenerationJob,  # noqa: F811
    tmp_path: Path,
) -> None:
    """What a paused picture depends on is its upscaler too."""
    path = tmp_path / "upscaler.safetensors"
    save_file(small_compact(), path)
    parts = using(path)
    settings = replace(small.settings, second_pass=parts["second_pass"])
    job = replace(small, settings=settings, companions=parts["companions"])
    turns = Turns(job)
    turns.pause(engine, after(2))
    tensors = small_compact()
    tensors["body.0.bias"] += 1
    save_file(tensors, path)
    heard = turns.finish(engine)
    steps = [event.step for event in heard.events if isinstance(event, StepFinished)]
    assert steps == [1, 2, 3, 4, 1, 2], "it is drawn anew"
    assert [image.data for image in turns.images] == whole(engine, job)


def test_pictures_that_share_passes_are_enlarged_each_by_itself(
    engine: Any,
    small: GenerationJob,  # noqa: F811
) -> None:
    parts = using(scale=1.5)
    jobs = [
        replace(
            small,
            settings=replace(small.settings, second_pass=parts["second_pass"], seeds=(seed,)),
            companions=parts["companions"],
            paused_file=None,
        )
        for seed in (1, 2)
    ]
    heard = [Listener(), Listener()]
    pairs = zip(jobs, heard, strict=True)
    reports = engine.generate_together([Together(*each) for each in pairs])
    assert [report.computed.most_together for report in reports] == [2, 2]
    for job, listener in zip(jobs, heard, strict=True):
        (image,) = images(listener)
        (alone,) = whole(engine, job)
        assert_alike(image.data, alone)
        assert any(isinstance(event, PieceFinished) for event in listener.events)


def test_of_an_inpainting_the_kept_part_is_enlarged_by_it_too(
    draw: Any,
    prepared: Any,  # noqa: F811
) -> None:
    original, mask = painting(64, 64), Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    drawn = draw(
        **SMALL,
        **using(),
        picture=prepared(original),
        mask=prepared(mask),
        inpainting=Inpainting(0.5, keep_unmasked_pixels=True, mask_blur_pixels=0),
    ).pixels[0]
    alone = np.asarray(network_alone(original))
    # The mask's edge is soft after it was enlarged.
    assert np.array_equal(drawn[:, 72:], alone[:, 72:])
    assert not np.array_equal(drawn[:, :56], alone[:, :56])


@pytest.fixture
def by_upscaler(tmp_path: Path) -> ByUpscaler:
    """A network that takes no time."""
    path = tmp_path / "upscaler.safetensors"
    save_file(small_compact(), path)
    model = UpscalerModel(NAME, ModelPlace.of(path))
    return ByUpscaler(UpscalerShelf(CPU), model, True, Listener(), lambda: None)


def _pixels(height: int, width: int) -> Any:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_over_edges_that_continue_it_sees_the_opposite_ones(by_upscaler: ByUpscaler) -> None:
    pixels, both = _pixels(48, 64), Edges(True, True)
    noted: list[Any] = []
    larger = by_upscaler.enlarge(pixels, 96, 128, both, noted.extend)
    rolled = by_upscaler.enlarge(np.roll(pixels, 8, axis=1), 96, 128, both, noted.extend)
    assert np.array_equal(rolled, np.roll(larger, 16, axis=1))
    plain = by_upscaler.enlarge(pixels, 96, 128, NO_EDGES, noted.extend)
    assert not np.array_equal(plain, larger)
    assert np.array_equal(plain[8:-8, 8:-8], larger[8:-8, 8:-8])
    assert noted == []


@pytest.mark.parametrize("failures", [1, 2])
def test_memory_that_runs_out_is_made_once(
    by_upscaler: ByUpscaler, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Tiles do not become smaller: other tiles are another picture."""
    made: list[str] = []
    real, left = enlarging.run_pass, [failures]
    sizes = []

    def run_pass(upscaler: Any, pixels: Any, plan: Any, *more: Any) -> Any:
        sizes.append(plan.across.length)
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(upscaler, pixels, plan, *more)

    monkeypatch.setattr(enlarging, "run_pass", run_pass)
    roomy = with_other(by_upscaler, make_room=lambda: made.append("room"))
    pixels = _pixels(64, 400)
    if failures == 1:
        again = roomy.enlarge(pixels, 128, 800, NO_EDGES, made.extend)
        assert np.array_equal(
            again, by_upscaler.enlarge(pixels, 128, 800, NO_EDGES, made.extend)
        )
    else:
        with pytest.raises(torch.OutOfMemoryError):
            roomy.enlarge(pixels, 128, 800, NO_EDGES, made.extend)
    assert made == ["room"]
    assert len(set(sizes)) == 1


def test_memory_that_runs_out_twice_is_told_as_such(
    engine: Any, work: GenerationJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_pass(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(enlarging, "run_pass", run_pass)
    with pytest.raises(ResourceExhausted) as refused:
        engine.generate(changed(work, **SMALL, steps=1, **using()), Listener())
    assert refused.value.reason is Reason.DEVICE_OUT_OF_MEMORY


def test_a_lower_type_that_overflows_is_told(by_upscaler: ByUpscaler) -> None:
    upscaler = by_upscaler.ready()
    upscaler.network.half()
    upscaler.data_type = torch.float16
    with torch.no_grad():
        for name, weight in upscaler.network.named_parameters():
            if name == "body.0.bias":
                weight += 60_000
    noted: list[Any] = []
    by_upscaler.enlarge(_pixels(64, 64), 128, 128, NO_EDGES, noted.extend)
    assert [each.kind for each in noted] == [DegradationKind.DATA_TYPE]
    assert "float16" in noted[0].detail


def test_numbers_that_are_none_are_refused(by_upscaler: ByUpscaler) -> None:
    upscaler = by_upscaler.ready()
    with torch.no_grad():
        for weight in upscaler.network.parameters():
            weight *= 1e30
    with pytest.raises(FailedPrecondition) as refused:
        by_upscaler.enlarge(_pixels(64, 64), 128, 128, NO_EDGES, lambda _: None)
    assert refused.value.reason is Reason.NON_FINITE_OUTPUT


def test_the_text_in_the_picture_names_it(work: GenerationJob) -> None:
    settings = changed(work, **using()).settings
    assert f"Hires upscaler: {NAME}" in shared_text(settings, 7)
    second = json.loads(full_text(settings, 7, data_types=()))["second_pass"]
    assert (second["upscale"], second["postprocessor_id"]) == ("model", NAME)
