"""A request changes nothing that the next one can see, whatever came before in which order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image

from domains.errors import Cancelled
from domains.inference.jobs import Companion
from domains.inference.types import (
    DdimOptions,
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    InpaintingFill,
    RefinerMode,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SecondPass,
    SecondPassUpscale,
    SeedVariation,
    SigmaSpacing,
    Toggle,
)
from domains.model.types import ModelType
from domains.session.types import PreviewSettings, StepFinished
from domains.values import ModelPlace
from tests.domains.inference.backends.conftest import MODEL
from tests.domains.inference.backends.test_control_nets import CANNY, edges, job_of
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_inpainting import prepared
from tests.domains.inference.backends.test_inversions import FAR
from tests.domains.inference.backends.test_inversions import using as using_embeddings
from tests.domains.inference.backends.test_loras import LINES, PIXELS, using
from tests.domains.inference.backends.test_refiner import using as using_refiner
from tests.fakes.jobs import Listener, changed

__all__ = ["prepared"]

SMALL = {"width": 64, "height": 64, "steps": 2}
SCALE = 1.5
Settings = dict[str, Any]
FileOf = Callable[[Image.Image], Any]
Change = Callable[[random.Random, Settings, FileOf], Settings]
"""What is asked for further, given what is asked for already and how a picture is prepared."""


def _size(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    return {"width": chance.choice([64, 576]), "vae_tiling": Toggle.ON}


def _prompt(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    return {
        "prompt": chance.choice(["a cat", ""]),
        "negative_prompt": chance.choice(["", "a dog"]),
        "sdxl": chance.choice([SdxlSettings(), SdxlSettings("a pizza", None)]),
        "clip_skip": chance.randint(0, 1),
    }


def _embedding(_: random.Random, asked: Settings, __: FileOf) -> Settings:
    word = "<far>"
    prompt = f"{asked.get('prompt', 'an apple')} {word}"
    return {"prompt": prompt} | using_embeddings((FAR, word))


def _scheduler(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    scheduler = chance.choice(list(Scheduler))
    spacing = chance.choice(sorted(scheduler.facts.spacings, key=lambda one: one.value))
    eta = DdimOptions(0.7) if scheduler is Scheduler.DDIM else None
    return {"scheduler": SchedulerSettings(scheduler, SigmaSpacing(spacing), ddim=eta)}


def _guidance(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    scale, rescale = chance.choice([0.0, 3.0]), chance.choice([0.0, 0.7])
    return {"guidance": GuidanceSettings(scale, rescale)}


def _loras(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    paths = chance.sample([LINES, PIXELS], chance.randint(1, 2))
    return using(*((path, chance.choice([-0.5, 0.8]), 0.5) for path in paths))


def _vae(_: random.Random, __: Settings, ___: FileOf) -> Settings:
    path = MODEL.parent / "emoji-vae.safetensors"
    companion = Companion(path.stem, ModelType.VAE, ModelPlace.of(path))
    return {"vae_model_id": path.stem, "companions": (companion,)}


def _seamless(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    return {"seamless_horizontally": chance.random() < 0.7, "seamless_vertically": True}


def _variation(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    return {"variation": SeedVariation(11, chance.random())}


def _pictures(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    return {
        "seeds": (chance.randint(0, 99), 3),
        "previews": PreviewSettings(every_steps=1),
    }


def _start(chance: random.Random, asked: Settings, file_of: FileOf) -> Settings:
    """From a picture, or in a part of one."""
    size = asked["width"], asked["height"]
    given = {"steps": 4, "picture": file_of(painting(*size))}
    if chance.random() < 0.4:
        return given | {"image_to_image": ImageToImage(0.75)}
    mask = Image.new("L", size)
    mask.paste(255, (size[0] // 2, 16, size[0] - 8, 40))
    inpainting = Inpainting(
        strength=chance.choice([0.75, 1.0]),
        fill=chance.choice(list(InpaintingFill)),
        mask_blur_pixels=chance.choice([0, 3]),
        keep_unmasked_pixels=chance.random() < 0.5,
    )
    return given | {"inpainting": inpainting, "mask": file_of(mask)}


def _second_pass(chance: random.Random, _: Settings, __: FileOf) -> Settings:
    upscale = chance.choice(list(SecondPassUpscale))
    guidance = GuidanceSettings(chance.choice([1.0, 4.0]))
    again = SecondPass(SCALE, upscale, 0.75, steps=4, guidance=guidance)
    if upscale is not SecondPassUpscale.MODEL:
        return {"second_pass": again}
    upscaler = Companion(
        "compact-2x", ModelType.UPSCALER, ModelPlace.of(MODEL.parent / "compact-2x.safetensors")
    )
    return {
        "second_pass": replace(again, postprocessor_id=upscaler.model_id),
        "companions": (upscaler,),
    }


def _crop(chance: random.Random, asked: Settings, _: FileOf) -> Settings:
    if "inpainting" not in asked or "second_pass" in asked:
        return {}
    margin = chance.randint(0, 8)
    return {"inpainting": replace(asked["inpainting"], crop_margin_pixels=margin)}


def _control_nets(chance: random.Random, asked: Settings, file_of: FileOf) -> Settings:
    """One or two, with pictures of the second pass's size where there is one."""
    width, height = asked["width"], asked["height"]
    nets = [
        {"conditioning_scale": chance.choice([0.5, 1.0]), "end": chance.choice([0.6, 1.0])}
        for _ in range(chance.randint(1, 2))
    ]

    def of_size(scale: float) -> Settings:
        pictures = (
            edges(seed, int(width * scale), int(height * scale)) for seed in range(len(nets))
        )
        return job_of(
            file_of,
            *((CANNY, picture, how) for picture, how in zip(pictures, nets, strict=True)),
        )

    settings = of_size(1)
    if "second_pass" in asked:
        settings["controls"] = tuple(
            replace(one, larger=larger)
            for one, larger in zip(
                settings["controls"], of_size(SCALE)["controls"], strict=True
            )
        )
    return settings


def _refiner(chance: random.Random, asked: Settings, _: FileOf) -> Settings:
    mode = chance.choice(list(RefinerMode))
    found = using_refiner(mode=mode, switch_at=0.5, steps=4)
    told = asked.get("sdxl", SdxlSettings())
    return found | {"steps": 4, "sdxl": replace(told, refiner=found["sdxl"].refiner)}


# In the order in which they are asked for: the later ones go by what is there.
CHANGES: dict[str, Change] = {
    "size": _size,
    "prompt": _prompt,
    "embedding": _embedding,
    "scheduler": _scheduler,
    "guidance": _guidance,
    "loras": _loras,
    "vae": _vae,
    "seamless": _seamless,
    "variation": _variation,
    "pictures": _pictures,
    "start": _start,
    "second pass": _second_pass,
    "crop": _crop,
    "control nets": _control_nets,
    "refiner": _refiner,
}


def asked_for(chance: random.Random, names: list[str], file_of: FileOf) -> Settings:
    """A request that differs from the plain one in those ways."""
    settings: Settings = dict(SMALL)
    for name in CHANGES:
        if name in names:
            change = CHANGES[name](chance, settings, file_of)
            companions = settings.get("companions", ()) + change.pop("companions", ())
            settings |= change | {"companions": companions}
    return settings


@pytest.fixture
def drawn(draw: Any, engine: Any, work: Any) -> Callable[..., None]:
    """Draw what is asked for, or stop it half-way."""

    def call(settings: Settings, *, stopped: bool) -> None:
        if not stopped:
            draw(**settings)
            return
        heard = Listener()

        def check_stop() -> None:
            if any(isinstance(event, StepFinished) for event in heard.events):
                raise Cancelled("stopped")

        heard.check_stop = check_stop
        with pytest.raises(Cancelled):
            engine.generate(changed(work, **settings), heard)

    return call


def test_a_plain_request_is_the_same_after_each_change_among_others(
    draw,
    drawn,
    prepared,
):
    """Each but the large size once, a few together; the last request is stopped half-way."""
    chance = random.Random(3)
    names = chance.sample(sorted(set(CHANGES) - {"size"}), len(CHANGES) - 1)
    before = draw(**SMALL).images[0].data
    for first in range(4):
        group = names[first::4]
        drawn(asked_for(chance, group, prepared), stopped=first == 3)
        assert draw(**SMALL).images[0].data == before, group


@pytest.mark.demonstration
@pytest.mark.parametrize("seed", range(2, 10))
def test_a_plain_request_is_the_same_after_many_others(draw, drawn, prepared, seed):
    chance = random.Random(seed)
    before = draw(**SMALL).images[0].data
    so_far: list[Any] = []
    for _ in range(12):
        names = chance.sample(sorted(CHANGES), chance.randint(1, 7))
        stopped = chance.random() < 0.2
        so_far.append((names, stopped))
        drawn(asked_for(chance, names, prepared), stopped=stopped)
        if chance.random() < 0.5:
            assert draw(**SMALL).images[0].data == before, so_far
    assert draw(**SMALL).images[0].data == before, so_far


@pytest.mark.demonstration
@pytest.mark.parametrize("seed", [5, 6])
def test_image_k_of_n_is_the_single_picture_of_its_seed(draw, seed, prepared):
    """Whatever else is asked for."""
    chance = random.Random(seed)
    for _ in range(6):
        names = chance.sample(sorted(set(CHANGES) - {"pictures", "size"}), 4)
        settings = asked_for(chance, names, prepared)
        seeds = tuple(chance.randrange(2**32) for _ in range(3))
        together = draw(**settings, seeds=seeds)
        for index, each in enumerate(seeds):
            alone = draw(**settings, seeds=(each,))
            assert alone.images[0].data == together.images[index].data, (names, index)
