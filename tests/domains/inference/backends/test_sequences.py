"""A request changes nothing that the next one can see, whatever came before in which order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from domains.errors import Cancelled
from domains.inference.jobs import Companion
from domains.inference.types import (
    DdimOptions,
    GuidanceSettings,
    ImageToImage,
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
from tests.domains.inference.backends.test_image_to_image import painting, prepared  # noqa: F401
from tests.domains.inference.backends.test_loras import LINES, PIXELS, using
from tests.fakes.jobs import Listener, changed

SMALL = {"width": 64, "height": 64, "steps": 2}
Change = Callable[[random.Random], dict[str, Any]]


def _scheduler(chance: random.Random) -> dict[str, Any]:
    scheduler = chance.choice(list(Scheduler))
    spacing = chance.choice(sorted(scheduler.facts.spacings, key=lambda one: one.value))
    eta = DdimOptions(0.7) if scheduler is Scheduler.DDIM else None
    return {"scheduler": SchedulerSettings(scheduler, SigmaSpacing(spacing), ddim=eta)}


def _loras(chance: random.Random) -> dict[str, Any]:
    paths = chance.sample([LINES, PIXELS], chance.randint(1, 2))
    return using(*((path, chance.choice([-0.5, 0.8]), 0.5) for path in paths))


def _second_pass(chance: random.Random) -> dict[str, Any]:
    upscale = chance.choice(list(SecondPassUpscale))
    guidance = GuidanceSettings(chance.choice([1.0, 4.0]))
    return {"second_pass": SecondPass(1.5, upscale, 0.5, steps=2, guidance=guidance)}


def _vae(_: random.Random) -> dict[str, Any]:
    path = MODEL.parent / "emoji-vae.safetensors"
    companion = Companion(path.stem, ModelType.VAE, ModelPlace.of(path))
    return {"vae_model_id": path.stem, "companions": (companion,)}


CHANGES: dict[str, Change] = {
    "scheduler": _scheduler,
    "loras": _loras,
    "second pass": _second_pass,
    "vae": _vae,
    "seamless": lambda chance: {
        "seamless_horizontally": chance.random() < 0.7,
        "seamless_vertically": True,
    },
    "variation": lambda chance: {"variation": SeedVariation(11, chance.random())},
    "prompt": lambda chance: {
        "prompt": chance.choice(["a cat", ""]),
        "negative_prompt": chance.choice(["", "a dog"]),
        "sdxl": chance.choice([None, SdxlSettings("a pizza", None)]),
        "clip_skip": chance.randint(0, 1),
    },
    "guidance": lambda chance: {
        "guidance": GuidanceSettings(chance.choice([0.0, 3.0]), chance.choice([0.0, 0.7]))
    },
    "size": lambda chance: {"width": chance.choice([64, 576]), "vae_tiling": Toggle.ON},
    "pictures": lambda chance: {
        "seeds": (chance.randint(0, 99), 3),
        "previews": PreviewSettings(every_steps=1),
    },
}


@pytest.fixture
def drawn(draw: Any, engine: Any, work: Any, prepared: Any) -> Any:  # noqa: F811
    """Draw what differs from the plain request in several ways; some are stopped half-way."""

    def call(chance: random.Random, names: list[str], *, begun: bool, stopped: bool) -> None:
        settings: dict[str, Any] = dict(SMALL)
        companions: tuple[Companion, ...] = ()
        for name in names:
            change = CHANGES[name](chance)
            companions += change.pop("companions", ())
            settings |= change
        if begun:
            settings["image_to_image"] = ImageToImage(0.6)
            picture = painting(settings["width"], settings["height"])
            settings["picture"] = prepared(picture)
        settings["companions"] = companions
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


def run(draw: Any, drawn: Any, seed: int, requests: int) -> None:
    chance = random.Random(seed)
    before = draw(**SMALL).images[0].data
    so_far: list[Any] = []
    for _ in range(requests):
        names = chance.sample(sorted(CHANGES), chance.randint(1, 5))
        begun, stopped = chance.random() < 0.3, chance.random() < 0.2
        so_far.append((names, begun, stopped))
        drawn(chance, names, begun=begun, stopped=stopped)
        if chance.random() < 0.5:
            assert draw(**SMALL).images[0].data == before, so_far
    assert draw(**SMALL).images[0].data == before, so_far


def test_a_plain_request_is_the_same_after_a_few_others(draw, drawn):
    run(draw, drawn, seed=1, requests=5)


@pytest.mark.demonstration
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_plain_request_is_the_same_after_many_others(draw, drawn, seed):
    run(draw, drawn, seed=seed, requests=15)


@pytest.mark.demonstration
@pytest.mark.parametrize("seed", [5, 6])
def test_image_k_of_n_is_the_single_picture_of_its_seed(draw, seed, prepared):  # noqa: F811
    """Whatever else is asked for."""
    chance = random.Random(seed)
    for _ in range(6):
        names = chance.sample(sorted(set(CHANGES) - {"pictures", "vae", "loras"}), 3)
        settings: dict[str, Any] = dict(SMALL)
        for name in names:
            settings |= CHANGES[name](chance)
        if chance.random() < 0.4:
            picture = prepared(painting(settings["width"], settings["height"]))
            settings |= {"image_to_image": ImageToImage(0.6), "picture": picture}
        seeds = tuple(chance.randrange(2**32) for _ in range(3))
        together = draw(**settings, seeds=seeds)
        for index, each in enumerate(seeds):
            alone = draw(**settings, seeds=(each,))
            assert alone.images[0].data == together.images[index].data, (names, index)
