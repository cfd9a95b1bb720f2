"""A seed means the same noise on every kind of device: every random number comes from a
generator on the CPU that was made for the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from domains.inference.backends.engine import Engine
from domains.inference.jobs import GenerationJob
from domains.inference.types import (
    ChurnOptions,
    DdimOptions,
    GuidanceSettings,
    ImageToImage,
    Inpainting,
    InpaintingFill,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SeedVariation,
    SolverAlgorithm,
    SolverOptions,
)
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_inpainting import hole
from tests.domains.inference.backends.test_inpainting import prepared as prepared
from tests.domains.inference.backends.test_schedulers import QUICK, SLOW
from tests.fakes.jobs import Listener, changed
from tests.fakes.tiny_models import save_sdxl

EDGE = 64
ANCESTRAL = SchedulerSettings(Scheduler.EULER_ANCESTRAL_DISCRETE)


class GeneratorsOfItsOwn(TorchDispatchMode):
    """Fails where numbers are drawn that do not come from a given generator on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and not _without_dropout(func, args):
            given = [*args, *kwargs.values()]
            generators = [each for each in given if isinstance(each, torch.Generator)]
            assert generators, f"{func} draws from the device's own generator"
            assert all(each.device.type == "cpu" for each in generators)
            self.drawn[str(func)] += 1
        return func(*args, **kwargs)


def _without_dropout(func: Any, args: Any) -> bool:
    """Attention is random only where it drops something."""
    attention = "attention" in str(func) or "sdp" in str(func)
    return attention and not any(type(each) is float and each for each in args)


@pytest.fixture(scope="module")
def numbers(
    work: GenerationJob, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., int]:
    """How often a picture's work draws random numbers."""
    tiny = save_sdxl(tmp_path_factory.mktemp("models") / "tiny")
    job = changed(work, model_path=tiny, model_id="tiny", width=EDGE, height=EDGE, steps=2)
    engine = Engine("cpu")
    engine.generate(job, Listener())  # loading makes networks, whose numbers are replaced

    def call(**changes: Any) -> int:
        with GeneratorsOfItsOwn() as mode:
            engine.generate(changed(job, **changes), Listener())
        return sum(mode.drawn.values())

    return call


def test_what_draws_from_the_devices_generator_is_noticed() -> None:
    with GeneratorsOfItsOwn(), pytest.raises(AssertionError, match="own generator"):
        torch.randn(2)
    with GeneratorsOfItsOwn() as mode:
        torch.randn(2, generator=torch.Generator())
    assert sum(mode.drawn.values()) == 1


@pytest.mark.parametrize(
    "scheduler",
    [*QUICK, *(pytest.param(each, marks=pytest.mark.demonstration) for each in SLOW)],
)
def test_the_noise_of_every_scheduler(numbers, scheduler: Scheduler) -> None:
    drawn = numbers(scheduler=SchedulerSettings(scheduler))
    assert (drawn > 1) == scheduler.facts.stochastic


@pytest.mark.parametrize(
    ("scheduler", "fewest"),
    [
        (SchedulerSettings(Scheduler.DDIM, ddim=DdimOptions(1.0)), 3),
        (SchedulerSettings(Scheduler.EULER_DISCRETE, churn=ChurnOptions(1.0)), 2),
        (
            SchedulerSettings(
                Scheduler.DPM_SOLVER_MULTISTEP,
                solver=SolverOptions(algorithm=SolverAlgorithm.SDE_DPMSOLVER_PP),
            ),
            3,
        ),
    ],
    ids=["eta", "churn", "sde"],
)
def test_noise_that_is_asked_for(numbers, scheduler: SchedulerSettings, fewest: int) -> None:
    assert numbers(scheduler=scheduler) >= fewest


def test_a_variation_draws_twice(numbers) -> None:
    assert numbers(variation=SeedVariation(seed=9, strength=0.5)) == 2


def test_the_noise_of_pictures_that_begin_with_one(numbers, prepared) -> None:
    picture = prepared(painting(EDGE, EDGE))
    start = ImageToImage(strength=1.0)
    # For what the VAE is not sure of, and in the picture's place.
    assert numbers(picture=picture, image_to_image=start) == 2
    assert numbers(picture=picture, image_to_image=start, scheduler=ANCESTRAL) > 2
    for fill in InpaintingFill:
        inpainting = Inpainting(strength=1.0, fill=fill)
        assert numbers(picture=picture, mask=prepared(hole(EDGE)), inpainting=inpainting) >= 2


def test_the_noise_of_a_second_pass(numbers) -> None:
    second = SecondPass(2.0, strength=0.5, steps=2, guidance=GuidanceSettings(2.0))
    assert numbers(second_pass=second) == 2
