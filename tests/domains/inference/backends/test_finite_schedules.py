"""Schedules by themselves: all that can be asked for hold numbers, or are refused; options that
diffusers lacks are those of k-diffusion."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import diffusers
import pytest
import torch
from msgspec.structs import replace

from domains.errors import InvalidArgument
from domains.inference.backends.schedulers import build_scheduler, step_options
from domains.inference.types import (
    OPTIONS,
    AncestralOptions,
    ChurnOptions,
    DdimOptions,
    LinearMultistepOptions,
    Scheduler,
    SchedulerSettings,
    SolverAlgorithm,
    SolverOptions,
    TimestepSpacing,
)
from tests.domains.inference.backends.test_image_to_image import prepared as prepared

EULER = Scheduler.EULER_DISCRETE
# Diffusers would rather be without the first DPM-Solver; it has it still.
pytestmark = pytest.mark.filterwarnings("ignore:.*algorithm_type.*:FutureWarning")


def finished(settings: SchedulerSettings, config: dict[str, Any], steps: int) -> torch.Tensor:
    """Latents after every step, with a network that knows a picture of halves."""
    scheduler = build_scheduler(settings, config, steps=steps)
    how = step_options(scheduler, settings, torch.Generator().manual_seed(3))
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    latents = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        sample = scheduler.scale_model_input(latents, timestep)
        noise = (sample - 0.5) / 2
        latents = scheduler.step(noise, timestep, latents, **how, return_dict=False)[0]
    return latents


CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
ASKED: dict[str, list[Any]] = {
    "solver": [
        *(SolverOptions(order, each) for order in (1, 2, 3) for each in SolverAlgorithm),
        *(SolverOptions(3, lower_order_final=lower) for lower in (True, False)),
    ],
    "churn": [ChurnOptions(40.0, 0.1, 20.0, 1.1)],
    "ddim": [DdimOptions(1.0)],
    "ancestral": [AncestralOptions(eta) for eta in (0.0, 0.5, 1.0)],
    "linear_multistep": [LinearMultistepOptions(order) for order in (1, 2, 3, 4)],
}
# They divide by what is left of the picture in the last timestep, which is nothing there.
_BY_ALPHA = (Scheduler.DDIM, Scheduler.LCM, Scheduler.TCD)


def combinations(scheduler: Scheduler) -> Iterator[SchedulerSettings]:
    """Everything that a scheduler can be asked for."""
    facts = scheduler.facts
    options = [None, *ASKED.get(facts.options_field, [])]
    for spacing in facts.spacings:
        for timesteps in facts.timestep_spacings:
            for zero in (None, True):
                for option in options:
                    settings = SchedulerSettings(scheduler, spacing, timesteps, zero)
                    if isinstance(option, SolverOptions):
                        lower = option.lower_order_final is not None
                        reads = "solver.lower_order_final" in facts.options
                        if option.algorithm not in facts.algorithms or (lower and not reads):
                            continue
                    if option is not None:
                        settings = replace(settings, **{facts.options_field: option})
                    yield settings


def check_finite(settings: SchedulerSettings, steps: int) -> None:
    """Either it draws, or the request is refused for asking for a division by nothing."""
    by_nothing = False
    if settings.zero_terminal_snr and settings.scheduler in _BY_ALPHA:
        cls = getattr(diffusers, settings.scheduler.value)
        options: dict[str, Any] = {"rescale_betas_zero_snr": True}
        if settings.timestep_spacing is not TimestepSpacing.MODEL:
            options["timestep_spacing"] = settings.timestep_spacing.value
        reference = cls.from_config(CONFIG | options)
        reference.set_timesteps(steps)
        by_nothing = bool((reference.alphas_cumprod[reference.timesteps] == 0).any())
    if not by_nothing:
        assert torch.isfinite(finished(settings, CONFIG, steps)).all()
        return
    with pytest.raises(InvalidArgument) as refused:
        finished(settings, CONFIG, steps)
    assert [each.field for each in refused.value.violations] == ["scheduler"]


@pytest.mark.parametrize("scheduler", [each for each in Scheduler if "KDPM2" not in each.value])
def test_every_combination_gives_numbers(scheduler: Scheduler) -> None:
    """A cut of them."""
    for index, settings in enumerate(combinations(scheduler)):
        if index % 15 == 0:
            check_finite(settings, 1 + index % 4)


@pytest.mark.demonstration
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("scheduler", [each for each in Scheduler if "KDPM2" not in each.value])
def test_every_combination_and_number_of_steps_gives_numbers(
    scheduler: Scheduler, steps: int
) -> None:
    for settings in combinations(scheduler):
        check_finite(settings, steps)


def test_steps_that_cannot_be_spaced_are_refused() -> None:
    """Where diffusers comes to one timestep too many, which is -1."""
    asked = SchedulerSettings(EULER, timestep_spacing=TimestepSpacing.TRAILING)
    for config, settings in (
        (CONFIG, asked),
        (CONFIG | {"timestep_spacing": "trailing"}, SchedulerSettings(EULER)),
    ):
        for steps in (60, 62):
            assert len(build_scheduler(settings, config, steps=steps).timesteps) == steps
        with pytest.raises(InvalidArgument) as refused:
            build_scheduler(settings, config, steps=61)
        assert [each.field for each in refused.value.violations] == ["steps"]


def toy(sample: torch.Tensor) -> torch.Tensor:
    return (sample - 0.5) / 2


def ancestral_of_k_diffusion(
    settings: SchedulerSettings, eta: float, factor: float
) -> torch.Tensor:
    """`sample_euler_ancestral` and `sample_dpm_2_ancestral`, in double precision."""
    plain = SchedulerSettings(settings.scheduler)
    made = build_scheduler(plain, CONFIG, steps=5)
    levels = made.sigmas.double()
    second = settings.scheduler is Scheduler.KDPM2_ANCESTRAL_DISCRETE
    if second:
        levels = torch.cat([levels[:1], levels[1::2]])
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    x = x * made.init_noise_sigma

    def derivative(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return toy(x / (sigma**2 + 1) ** 0.5)

    for here, there in pairwise(levels):
        if there == here:
            continue
        up = min(there, eta * (there**2 * (here**2 - there**2) / here**2) ** 0.5)
        down = (there**2 - up**2) ** 0.5
        d = derivative(x, here)
        if second and down > 0:
            middle = (here.log() + down.log()).mul(0.5).exp()
            d = derivative(x + d * (middle - here), middle)
        x = x + d * (down - here)
        noise = torch.randn(x.shape, generator=generator)
        if there > 0:
            x = x + noise.double() * up * factor
    return x


@pytest.mark.parametrize(
    "scheduler", [Scheduler.EULER_ANCESTRAL_DISCRETE, Scheduler.KDPM2_ANCESTRAL_DISCRETE]
)
def test_ancestral_options_are_those_of_k_diffusion(scheduler: Scheduler) -> None:
    for eta, factor in ((0.5, 0.9), (0.0, 1.0)):
        asked = SchedulerSettings(scheduler, ancestral=AncestralOptions(eta, factor))
        expected = ancestral_of_k_diffusion(asked, eta, factor)
        torch.testing.assert_close(
            finished(asked, CONFIG, 5).double(), expected, rtol=1e-4, atol=1e-4
        )


def test_options_are_those_of_the_contract() -> None:
    assert set(ASKED) == set(OPTIONS)
