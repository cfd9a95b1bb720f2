"""Pictures that a second model finishes are those of diffusers' two pipelines, bit for bit."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from PIL import Image

from domains.errors import Cancelled, FailedPrecondition, InvalidArgument, Reason
from domains.inference.backends import denoise, loader
from domains.inference.backends.device import Numerics
from domains.inference.backends.engine import Engine
from domains.inference.backends.precision import apply
from domains.inference.jobs import Companion
from domains.inference.types import (
    GuidanceSettings,
    ImageToImage,
    PrecisionMode,
    Refiner,
    RefinerMode,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SeedVariation,
)
from domains.model.types import ModelType
from domains.session.jobs import EncodedImage
from domains.session.types import ImageDecoded, Phase, PhaseStarted, PreviewSettings
from domains.values import DegradationKind, ModelPart, ModelPlace
from tests.domains.inference.backends.conftest import MODEL, own_share, unload_loras
from tests.domains.inference.backends.test_image_to_image import painting, prepared
from tests.domains.inference.backends.test_loras import using as using_loras
from tests.domains.inference.backends.test_oracle import same
from tests.domains.model.originals import refiner_file
from tests.fakes.jobs import Listener, changed

__all__ = ["prepared"]

REFINER = MODEL.parent / "emoji-refiner"
VAE = MODEL.parent / "emoji-vae.safetensors"
NAME = "second-emoji-refiner"
LORA = MODEL.parent / "line-art.safetensors"
SMALL = {"width": 64, "height": 64, "steps": 6}
IMAGE_TO_IMAGE = RefinerMode.IMAGE_TO_IMAGE


def using(
    path: Path = REFINER, *, type: ModelType = ModelType.REFINER, **asked: Any
) -> dict[str, Any]:
    """Settings and place of a refiner, resolved as the front does it."""
    usual = {"steps": SMALL["steps"], "guidance": GuidanceSettings(6.0)}
    name = f"second-{path.stem}"
    refiner = Refiner(name, **(usual | asked))
    companion = Companion(name, type, ModelPlace.of(path))
    return {"sdxl": SdxlSettings(refiner=refiner), "companions": (companion,)}


@pytest.fixture(scope="module")
def second(pipeline: Any) -> Any:
    """The reference's refiner, with the networks that its folder leaves out."""
    pipe: Any = StableDiffusionXLImg2ImgPipeline.from_pretrained(
        REFINER,
        vae=pipeline.vae,
        text_encoder_2=pipeline.text_encoder_2,
        text_encoder=None,
        tokenizer=None,
        dtype=torch.float32,
        local_files_only=True,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def refined(pipeline: Any, second: Any, work: Any) -> Callable[..., Any]:
    """Pixels and final latents of the reference: both pipelines, one generator."""

    def call(
        scheduler: Scheduler = Scheduler.EULER_DISCRETE,
        *,
        first: Any = None,
        last: Any = None,
        end: float | None = 0.8,
        seed: int = 7,
        base: dict[str, Any] | None = None,
        **theirs: Any,
    ) -> Any:
        first, last = first or pipeline, last or second
        own = first.scheduler, last.scheduler
        cls = getattr(diffusers, scheduler.value)
        config = pipeline.scheduler.config
        first.scheduler, last.scheduler = cls.from_config(config), cls.from_config(config)
        seen: list[torch.Tensor] = []

        def keep(_pipe: Any, _index: int, _timestep: Any, state: dict[str, Any]) -> Any:
            seen[:] = [state["latents"].clone()]
            return state

        both = {
            "prompt": work.settings.prompt,
            "num_inference_steps": SMALL["steps"],
            "guidance_scale": 6.0,
            "generator": torch.Generator("cpu").manual_seed(seed),
            **own_share(scheduler),
        }
        size = {} if base and "image" in base else {"width": 64, "height": 64}
        try:
            begun = first(
                **(both | size | (base or {})), denoising_end=end, output_type="latent"
            ).images
            given = {} if end is None else {"denoising_start": end}
            images = last(
                **(both | given | theirs), image=begun, callback_on_step_end=keep
            ).images
        finally:
            first.scheduler, last.scheduler = own
        return np.asarray(images[0]), seen[0]

    return call


@pytest.mark.parametrize("scheduler", [Scheduler.EULER_DISCRETE, Scheduler.HEUN_DISCRETE])
def test_it_takes_the_schedule_over(draw, refined, scheduler):
    same(draw(**SMALL, **using(), scheduler=SchedulerSettings(scheduler)), refined(scheduler))


def test_it_starts_from_the_finished_picture(draw, refined):
    asked = using(mode=IMAGE_TO_IMAGE, switch_at=0.5, steps=5, guidance=GuidanceSettings(3.0))
    theirs = {"strength": 0.5, "num_inference_steps": 5, "guidance_scale": 3.0}
    same(draw(**SMALL, **asked), refined(end=None, **theirs))


@pytest.mark.demonstration
@pytest.mark.parametrize("switch_at", [0.5, 0.8])
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_hands_over(draw, refined, scheduler, switch_at):
    asked = using(switch_at=switch_at, steps=7)
    how = {"end": switch_at, "denoising_start": switch_at, "num_inference_steps": 7}
    size = {"width": 64, "height": 64, "steps": 7}
    expected = refined(scheduler, base={"num_inference_steps": 7}, **how)
    same(draw(**size, **asked, scheduler=SchedulerSettings(scheduler)), expected)


@pytest.mark.demonstration
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_starts_from_the_finished_picture(draw, refined, scheduler):
    asked = using(mode=IMAGE_TO_IMAGE, switch_at=0.4)
    drawn = draw(**SMALL, **asked, scheduler=SchedulerSettings(scheduler))
    same(drawn, refined(scheduler, end=None, strength=0.6))


@pytest.mark.demonstration
@pytest.mark.parametrize(
    ("ours", "asked", "base", "theirs"),
    [
        pytest.param(
            {"negative_prompt": "pizza", "clip_skip": 1},
            {"steps": 9, "guidance": GuidanceSettings(4.0, 0.5), "aesthetic_score": 8.0},
            {"negative_prompt": "pizza", "clip_skip": 1},
            {
                "negative_prompt": "pizza",
                "clip_skip": 1,
                "num_inference_steps": 9,
                "guidance_scale": 4.0,
                "guidance_rescale": 0.5,
                "aesthetic_score": 8.0,
            },
            id="of its own",
        ),
        pytest.param(
            {"guidance": GuidanceSettings(1.0)},
            {"guidance": GuidanceSettings(1.0), "negative_aesthetic_score": 1.0},
            {"guidance_scale": 1.0},
            {"guidance_scale": 1.0, "negative_aesthetic_score": 1.0},
            id="unguided",
        ),
        pytest.param(
            {}, {"negative_aesthetic_score": 5.0}, {}, {"negative_aesthetic_score": 5.0},
            id="negative score",
        ),
    ],
)  # fmt: skip
def test_every_setting(draw, refined, ours, asked, base, theirs):
    same(draw(**SMALL, **ours, **using(**asked)), refined(base=base, **theirs))


@pytest.mark.demonstration
def test_scores_are_for_refiners_alone(draw):
    """A checkpoint that finishes is told sizes in the score's place, as it was trained."""

    def latents(path: Path, score: float, **how: Any) -> torch.Tensor:
        small = {"width": 64, "height": 64, "steps": 2}
        asked = using(path, steps=2, switch_at=0.5, aesthetic_score=score, **how)
        return draw(**small, **asked).latents[0]

    checkpoint = {"type": ModelType.CHECKPOINT}
    assert not torch.equal(latents(REFINER, 2.0), latents(REFINER, 9.0))
    assert torch.equal(latents(MODEL, 2.0, **checkpoint), latents(MODEL, 9.0, **checkpoint))


@pytest.mark.demonstration
def test_a_picture_to_start_from_is_refined_too(draw, refined, pipeline, prepared):
    first: Any = StableDiffusionXLImg2ImgPipeline(**pipeline.components)
    first.set_progress_bar_config(disable=True)
    image = painting(64, 64)
    drawn = draw(**SMALL, **using(), picture=prepared(image), image_to_image=ImageToImage(0.7))
    same(drawn, refined(first=first, base={"image": image, "strength": 0.7}))


@pytest.mark.demonstration
def test_a_checkpoint_refines_with_encoders_of_its_own(draw, refined, pipeline):
    last: Any = StableDiffusionXLImg2ImgPipeline(**pipeline.components)
    last.set_progress_bar_config(disable=True)
    copied = using(MODEL, type=ModelType.CHECKPOINT, mode=IMAGE_TO_IMAGE, switch_at=0.5)
    expected = refined(last=last, end=None, strength=0.5)
    # The same files under another name: what differs from the base is that it begins anew.
    drawn = draw(**SMALL, **copied)
    same(drawn, expected)


@pytest.mark.demonstration
def test_one_with_networks_of_its_own_uses_them(draw, refined, pipeline, tmp_path):
    path, unet = refiner_file(tmp_path)
    last: Any = StableDiffusionXLImg2ImgPipeline(
        unet=unet,
        vae=pipeline.vae,
        text_encoder=None,
        text_encoder_2=pipeline.text_encoder_2,
        tokenizer=None,
        tokenizer_2=pipeline.tokenizer_2,
        scheduler=pipeline.scheduler,
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )
    last.set_progress_bar_config(disable=True)
    same(draw(**SMALL, **using(path)), refined(last=last))


@pytest.mark.demonstration
def test_another_vae_decodes_what_is_refined(draw):
    plain = draw(**SMALL, **using())
    asked = using()
    other = Companion("other", ModelType.VAE, ModelPlace.of(VAE))
    asked["companions"] += (other,)
    exchanged = draw(**SMALL, **asked, vae_model_id="other")
    assert torch.equal(exchanged.latents[0], plain.latents[0])
    assert not np.array_equal(exchanged.pixels[0], plain.pixels[0])


@pytest.mark.demonstration
def test_loras_work_on_the_base_alone(draw, refined, pipeline, second):
    asked, lora = using(), using_loras((LORA, 1.0, 1.0))
    asked["companions"] += lora.pop("companions")
    drawn = draw(**SMALL, **asked, **lora)
    pipeline.load_lora_weights(LORA.parent, weight_name=LORA.name, adapter_name="a")
    try:
        handed = refined()
    finally:
        unload_loras(pipeline)
    same(drawn, handed)
    assert not torch.equal(drawn.latents[0], draw(**SMALL, **using()).latents[0])


def test_steps_and_previews_go_on_over_both_and_nothing_is_copied(draw, engine):
    drawn = draw(**SMALL, **using(), seeds=(7, 8), previews=PreviewSettings(1, 64))
    for image in (0, 1):
        told = [(each.step, each.steps) for each in drawn.steps if each.image_index == image]
        assert told == [(k, 6) for k in range(1, 7)]
        shown = [each.step for each in drawn.previews if each.image_index == image]
        assert shown == [1, 2, 3, 4, 5, 6]
    phases = [each.phase for each in drawn.events if isinstance(each, PhaseStarted)]
    assert phases.count(Phase.REFINING) == 2
    assert drawn.report.timings.refine > 0
    held = {(part.model_id, part.component) for part in engine.held()}
    assert {component for model_id, component in held if model_id == NAME} == {"unet"}
    assert ("emoji-xl", "text_encoder_2") in held


@pytest.mark.demonstration
def test_each_picture_is_as_if_alone_and_nothing_is_left_behind(draw):
    plain = draw(**SMALL)
    both = draw(**SMALL, **using(), seeds=(7, 8))
    alone = draw(**SMALL, **using(), seeds=(8,))
    assert torch.equal(both.latents[1], alone.latents[0])
    assert torch.equal(draw(**SMALL).latents[0], plain.latents[0])


def test_where_there_is_no_room_for_both_the_base_gives_way(work, draw, monkeypatch):
    asked = {**SMALL, **using(), "seeds": (7, 8)}
    usual = draw(**asked)
    own, heard, used = Engine("cpu"), Listener(), set()
    monkeypatch.setattr(loader, "missing_beside", lambda *_: 1 << 50)
    # Looked for before every step: what the device tells of while the refiner works.
    heard.check_stop = lambda: used.add(
        tuple((part.model_id, part.component) for part in own.held() if part.in_use)
    )
    report = own.generate(changed(work, **asked), heard)
    assert ((NAME, "unet"),) in used
    kinds = [each.kind for each in report.degradations]
    assert kinds == [DegradationKind.OFFLOADED]
    assert [part.model_id for part in own.held()] == [NAME]
    assert [image.data for image in _images(heard)] == [image.data for image in usual.images]
    assert {each.part for each in report.data_types} == {
        each.part for each in usual.report.data_types
    }
    order = [each for each in heard.events if isinstance(each, PhaseStarted | ImageDecoded)]
    assert [each.phase for each in order if isinstance(each, PhaseStarted)].count(
        Phase.LOADING_MODEL
    ) == 2


@pytest.mark.parametrize("mode", RefinerMode)
def test_one_that_overflows_draws_once_more_in_float32(work, mode):
    """Nothing stands in here: a layer gives more than 16 bits hold."""
    job = changed(work, **SMALL, **using(mode=mode), variation=SeedVariation(9, 0.3))

    def drawn(*kinds: torch.dtype) -> tuple[Any, Any, Any]:
        own, heard = Engine("cpu"), Listener()
        own.generate(job, Listener())
        refiner = next(one for one in own._loader.models if one.model_id == NAME)
        with torch.no_grad():
            refiner.networks["unet"].conv_in.weight *= 1e5
        for kind in kinds:
            refiner.unet_numerics = Numerics(kind)
            apply(refiner.networks["unet"], refiner.unet_numerics)
        report = own.generate(job, heard)
        assert refiner.unet_numerics == Numerics(kinds[-1])
        (image,) = [event for event in heard.events if isinstance(event, EncodedImage)]
        return np.asarray(Image.open(io.BytesIO(image.data))).astype(int), report, heard

    half, report, heard = drawn(torch.float16)
    whole, plain, _ = drawn(torch.float16, torch.float32)
    assert np.abs(half - whole).max() <= 2  # the texts were rounded to 16 bits
    assert plain.degradations == ()
    (told,) = report.degradations
    assert (told.kind, told.part) == (DegradationKind.DATA_TYPE, ModelPart.DENOISER)
    assert told.detail == "Refined in float32, as float16 overflowed."
    assert sum(isinstance(each, ImageDecoded) for each in heard.events) == 1


def test_lost_tokens_of_what_it_alone_reads_are_told(draw):
    """Without guidance the model before it reads no negative prompt."""
    small = SMALL | {"steps": 2, "guidance": GuidanceSettings(1.0)}
    asked = using(steps=2, switch_at=0.5)
    (told,) = draw(**small, **asked, negative_prompt="apple " * 90).report.degradations
    assert told.kind is DegradationKind.PROMPT_TRUNCATED
    long = {"prompt": "apple " * 90, "guidance": GuidanceSettings(6.0)}
    (told,) = draw(**(small | asked | long)).report.degradations
    assert told.kind is DegradationKind.PROMPT_TRUNCATED


def _images(heard: Listener) -> list[Any]:
    return [
        event for event in heard.events if hasattr(event, "data") and hasattr(event, "seed")
    ]


@pytest.mark.parametrize("phase", [Phase.DENOISING, Phase.REFINING])
def test_it_is_cancelled_in_either_part(engine, work, phase):
    heard = Listener()

    def check_stop() -> None:
        phases = [each.phase for each in heard.events if isinstance(each, PhaseStarted)]
        if phases and phases[-1] is phase:
            raise Cancelled("The work was stopped on request.")

    heard.check_stop = check_stop
    with pytest.raises(Cancelled):
        engine.generate(changed(work, **SMALL, **using()), heard)
    assert not _images(heard)


@pytest.mark.demonstration
def test_the_fastest_numbers_are_measured_for_both(work):
    own, heard = Engine("cpu"), Listener()
    asked = using()
    job = changed(work, **SMALL, **asked, precision=PrecisionMode.FASTEST)
    report = own.generate(job, heard)
    assert report.precision is PrecisionMode.FASTEST
    refiner = next(one for one in own._loader.models if one.model_id == NAME)
    assert refiner.unet_measured


@pytest.mark.parametrize(
    ("switch_at", "steps", "who"), [(0.03, 6, "model"), (0.9995, 6, "refiner")]
)
def test_a_cut_that_leaves_nothing_is_refused(draw, switch_at, steps, who):
    asked = using(switch_at=switch_at, steps=steps)
    with pytest.raises(InvalidArgument) as refused:
        draw(**SMALL, **asked)
    assert refused.value.violations[0].field == "sdxl.refiner.switch_at"
    assert who in refused.value.message


def test_a_refiner_with_other_text_is_refused_by_name(draw, tmp_path):
    """Its UNet takes other text than the base's encoder gives."""
    folder = Path(shutil.copytree(REFINER, tmp_path / "refiner"))
    config = folder / "unet" / "config.json"
    found = json.loads(config.read_text())
    config.write_text(json.dumps(found | {"addition_time_embed_dim": 31}))
    with pytest.raises(FailedPrecondition) as refused:
        draw(**SMALL, **using(folder))
    assert refused.value.reason is Reason.MODEL_INCOMPATIBLE
    assert refused.value.metadata["field"] == "settings.sdxl.refiner.model_id"
    assert "emoji-xl" in refused.value.message


def sharpness(pixels: Any) -> float:
    """Mean squared Laplacian of the brightness: how much fine detail a picture has."""
    light = pixels.astype(float) @ [0.299, 0.587, 0.114] / 255
    centre, across = light[1:-1, 1:-1], light[1:-1, :-2] + light[1:-1, 2:]
    return float(((across + light[:-2, 1:-1] + light[2:, 1:-1] - 4 * centre) ** 2).mean())


@pytest.mark.demonstration
def test_it_sharpens(draw):
    usual = {"width": 256, "height": 256, "steps": 16}
    found = []
    for refining in ({}, using(steps=16)):
        drawn = [
            draw(prompt=f"{what} on a teal background", seeds=(7, 8), **usual, **refining)
            for what in ("a robot", "a pizza", "a dog face")
        ]
        found.append([sharpness(pixels) for each in drawn for pixels in each.pixels])
    plain, refined = map(np.array, found)
    assert refined.mean() > plain.mean()
    assert (refined > plain).mean() > 0.5


@pytest.mark.parametrize(
    ("mode", "calls"),
    [
        (RefinerMode.HANDOVER, "gggggppppp"),
        (IMAGE_TO_IMAGE, "gggggppppp" + "ggpp"),  # a schedule of its own
    ],
)
def test_an_interval_of_guidance_is_one_of_the_whole_schedule(
    draw: Any, monkeypatch: pytest.MonkeyPatch, mode: RefinerMode, calls: str
) -> None:
    """Also where the refiner does the end of it."""
    seen = []
    predict = denoise.predict

    def noted(unet: Any, sample: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append("pg"[sample.shape[0] - 1])
        return predict(unet, sample, *rest)

    monkeypatch.setattr(denoise, "predict", noted)
    guidance = GuidanceSettings(6.0, end=0.5)
    more = using(mode=mode, switch_at=0.6, steps=10, guidance=guidance)
    draw(width=64, height=64, steps=10, guidance=guidance, **more)
    assert "".join(seen) == calls
