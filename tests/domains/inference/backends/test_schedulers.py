"""What is said of each scheduler is true of the library's, and odd ones are refused."""

from __future__ import annotations

import inspect
import json

import diffusers
import numpy as np
import pytest
import torch

from domains.errors import FailedPrecondition, InvalidArgument, Reason
from domains.inference.backends.schedulers import build_scheduler, step_options
from domains.inference.core.schedules import DISTILLED
from domains.inference.types import DdimOptions, Scheduler, SchedulerSettings, SigmaSpacing
from domains.limits import LIMITS
from domains.model.backends.component_config import read_config
from domains.model.backends.families.schedulers import SCHEDULER
from tests.domains.model.disk import files_at
from tests.libraries import OLD_DIFFUSERS

SWITCHES = {
    SigmaSpacing.KARRAS: "use_karras_sigmas",
    SigmaSpacing.EXPONENTIAL: "use_exponential_sigmas",
    SigmaSpacing.BETA: "use_beta_sigmas",
}
# They work out a thousand steps whenever one is made.
SLOW = (Scheduler.KDPM2_DISCRETE, Scheduler.KDPM2_ANCESTRAL_DISCRETE)
QUICK = [scheduler for scheduler in Scheduler if scheduler not in SLOW]
# All, of which one of the slow ones belongs to the matrix: they are made in the same way.
ONE_OF_THE_SLOW = [
    pytest.param(each, marks=pytest.mark.demonstration)
    if each is Scheduler.KDPM2_ANCESTRAL_DISCRETE
    else each
    for each in Scheduler
]


@pytest.mark.parametrize("scheduler", Scheduler)
def test_spacings_are_what_the_class_takes(scheduler):
    parameters = inspect.signature(getattr(diffusers, scheduler.value)).parameters
    taken = {spacing for spacing, switch in SWITCHES.items() if switch in parameters}
    assert scheduler.facts.spacings == taken | {SigmaSpacing.MODEL, SigmaSpacing.EVEN}


@pytest.mark.parametrize(
    ("scheduler", "own"),
    [
        *((scheduler, own) for scheduler in QUICK for own in SWITCHES.values()),
        *((scheduler, SWITCHES[SigmaSpacing.KARRAS]) for scheduler in SLOW),
    ],
)
def test_an_even_spacing_overrides_the_models_own(scheduler, own):
    even = SchedulerSettings(scheduler, SigmaSpacing.EVEN)
    plain = build_scheduler(SchedulerSettings(scheduler), {}, steps=5)
    asked = build_scheduler(even, {own: True}, steps=5)
    assert torch.equal(asked.timesteps, plain.timesteps)
    if hasattr(plain, "sigmas"):
        assert torch.equal(asked.sigmas, plain.sigmas)


@pytest.mark.parametrize("scheduler", Scheduler)
def test_the_unet_is_called_as_often_as_is_said(scheduler):
    built = build_scheduler(SchedulerSettings(scheduler), {}, steps=6)
    assert built.order == scheduler.facts.calls_per_step
    called = len(built.timesteps)
    # The last step needs no second call.
    assert called in {6 * built.order, 6 * built.order - 1}


@pytest.mark.parametrize("scheduler", Scheduler)
def test_noise_is_added_by_those_that_are_said_to(scheduler):
    def steps(seed, eta=0.0):
        settings = SchedulerSettings(scheduler, ddim=DdimOptions(eta))
        built = build_scheduler(settings, {}, steps=4)
        options = step_options(built, settings, torch.Generator().manual_seed(seed))
        latents = torch.ones(1, 4, 8, 8)
        for timestep in built.timesteps[:3]:
            built.scale_model_input(latents, timestep)
            latents = built.step(latents / 2, timestep, latents, **options).prev_sample
        return latents

    facts, first = scheduler.facts, steps(1)
    assert torch.equal(first, steps(2)) != facts.stochastic
    takes_eta = not torch.equal(first, steps(1, eta=1.0))
    assert takes_eta == (facts.options_field == "ddim")


@pytest.mark.parametrize("scheduler", ONE_OF_THE_SLOW)
def test_which_schedulers_read_samples(scheduler):
    def build():
        build_scheduler(SchedulerSettings(scheduler), {"prediction_type": "sample"}, steps=4)

    if scheduler.facts.reads_samples:
        build()
    else:
        with pytest.raises(FailedPrecondition) as caught:
            build()
        assert isinstance(caught.value.__cause__, NotImplementedError)


@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_has_a_name_of_its_own_for_other_programs(scheduler):
    name = scheduler.facts.sampler_name
    assert [other for other in Scheduler if other.facts.sampler_name == name] == [scheduler]


@pytest.mark.parametrize("scheduler", Scheduler)
def test_a_model_may_come_with_any_scheduler(scheduler):
    config = json.loads(getattr(diffusers, scheduler.value)().to_json_string())
    assert SCHEDULER.problem(config) == ""
    for other in QUICK:
        build_scheduler(SchedulerSettings(other), config, steps=4)


@pytest.mark.demonstration
@pytest.mark.parametrize("scheduler", Scheduler)
@pytest.mark.parametrize("slow", SLOW)
def test_a_model_may_come_with_any_scheduler_and_be_drawn_with_these(scheduler, slow):
    config = json.loads(getattr(diffusers, scheduler.value)().to_json_string())
    build_scheduler(SchedulerSettings(slow), config, steps=4)


@pytest.mark.parametrize(
    "scheduler", [Scheduler.DPM_SOLVER_MULTISTEP, Scheduler.DPM_SOLVER_SINGLESTEP]
)
def test_dpm_solvers_read_what_deis_writes_as_their_own_best(scheduler):
    config = {"algorithm_type": "deis", "solver_type": "logrho"}
    assert SCHEDULER.problem(config) == ""
    built = build_scheduler(SchedulerSettings(scheduler), config, steps=4)
    assert built.config.algorithm_type == "dpmsolver++"
    usual = build_scheduler(SchedulerSettings(scheduler), {}, steps=4)
    assert torch.equal(built.sigmas, usual.sigmas)


def test_a_folder_may_say_minus_infinity_for_no_limit(tmp_path):
    """What diffusers writes beside DPM-Solver's configuration, which is no JSON."""
    diffusers.DPMSolverMultistepScheduler().save_pretrained(tmp_path)
    assert "-Infinity" in (tmp_path / "scheduler_config.json").read_text()
    config = read_config(files_at(tmp_path), "scheduler_config.json")
    assert SCHEDULER.problem(config) == ""
    for scheduler in Scheduler:
        build_scheduler(SchedulerSettings(scheduler), config, steps=4)


def zero_snr_alphas(start: float, end: float) -> np.ndarray:
    """Products of alphas by algorithm 1 of arXiv:2305.08891, in double precision, of betas
    that are linear in their roots."""
    betas = np.linspace(start**0.5, end**0.5, 1000) ** 2
    roots = np.sqrt(np.cumprod(1 - betas))
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


@pytest.mark.parametrize("scheduler", ONE_OF_THE_SLOW)
def test_each_scheduler_begins_with_noise_alone_where_the_model_was_trained_so(scheduler):
    config = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    built = build_scheduler(SchedulerSettings(scheduler), config, steps=5)

    alphas = built.alphas_cumprod.double().numpy()
    expected = zero_snr_alphas(0.00085, 0.012)
    np.testing.assert_allclose(alphas[:-1], expected[:-1], rtol=1e-3, atol=1e-7)
    assert built.timesteps[0] == 999
    if not hasattr(built, "sigmas"):  # which would be infinite
        assert alphas[-1] == 0
    else:
        assert alphas[-1] == pytest.approx(2**-24, rel=1e-3)
        assert built.sigmas[0] == pytest.approx(4096, rel=1e-3)
    plain = build_scheduler(
        SchedulerSettings(scheduler), config | {"rescale_betas_zero_snr": False}, steps=5
    )
    assert plain.alphas_cumprod[-1] > 1e-3


def test_a_requested_spacing_replaces_the_models():
    settings = SchedulerSettings(Scheduler.EULER_DISCRETE, SigmaSpacing.BETA)
    scheduler = build_scheduler(settings, {"use_karras_sigmas": True}, steps=4)
    assert scheduler.config.use_beta_sigmas
    assert not scheduler.config.use_karras_sigmas


@pytest.mark.filterwarnings("ignore:.*algorithm_type:FutureWarning")
def test_a_configuration_the_class_refuses_is_the_models_fault():
    settings = SchedulerSettings(Scheduler.DPM_SOLVER_MULTISTEP)
    config = {"algorithm_type": "dpmsolver", "final_sigmas_type": "zero"}
    with pytest.raises(FailedPrecondition) as caught:
        build_scheduler(settings, config, steps=4)
    assert caught.value.reason is Reason.MODEL_CONFIG_INVALID


@pytest.mark.parametrize(
    ("scheduler", "config"),
    [
        (Scheduler.EULER_ANCESTRAL_DISCRETE, {"prediction_type": "sample"}),
        (Scheduler.DDIM, {"steps_offset": 9999}),
        (Scheduler.DPM_SOLVER_SINGLESTEP, {"algorithm_type": "sde-dpmsolver"}),
        pytest.param(
            Scheduler.UNIPC_MULTISTEP,
            {"use_dynamic_shifting": True},
            marks=pytest.mark.skipif(
                OLD_DIFFUSERS, reason="this diffusers draws with it, as if it were not said"
            ),
        ),
    ],
)
def test_a_configuration_that_cannot_draw_is_the_models_fault(scheduler, config):
    for steps in (2, 7):
        with pytest.raises(FailedPrecondition) as caught:
            build_scheduler(SchedulerSettings(scheduler), config, steps=steps)
        assert caught.value.reason is Reason.MODEL_CONFIG_INVALID
        assert caught.value.metadata["component"] == "scheduler"
        assert caught.value.metadata["scheduler"] == scheduler.value


@pytest.mark.parametrize(
    ("scheduler", "config", "steps"),
    [
        (Scheduler.DDIM, {"steps_offset": 10, "timestep_spacing": "leading"}, 125),
    ],
)
def test_steps_are_never_blamed_for_what_a_model_says(scheduler, config, steps):
    settings = SchedulerSettings(scheduler)
    build_scheduler(settings, config, steps=2)
    build_scheduler(settings, {}, steps=steps)
    with pytest.raises(FailedPrecondition) as caught:
        build_scheduler(settings, config, steps=steps)
    assert caught.value.reason is Reason.MODEL_CONFIG_INVALID


# They take no step between two timesteps that are one, as where there are as many as steps.
_OF_UNLIKE_TIMESTEPS = {
    Scheduler.DPM_SOLVER_MULTISTEP,
    Scheduler.UNIPC_MULTISTEP,
    Scheduler.DEIS_MULTISTEP,
}


@pytest.mark.parametrize(
    "scheduler",
    [
        pytest.param(each, marks=pytest.mark.demonstration)
        if each is Scheduler.LMS_DISCRETE  # integrates for seconds
        else each
        for each in QUICK
    ],
)
def test_the_shortest_schedule_suffices_for_the_most_steps(scheduler):
    most = int(LIMITS["GenerationSettings.steps"].maximum)
    config = {"num_train_timesteps": most}
    assert SCHEDULER.problem(config) == ""
    assert SCHEDULER.problem({"num_train_timesteps": most - 1})
    for spacing in scheduler.facts.spacings:
        settings = SchedulerSettings(scheduler, spacing)
        if scheduler in _OF_UNLIKE_TIMESTEPS and spacing not in SWITCHES:
            with pytest.raises(InvalidArgument) as refused:
                build_scheduler(settings, config, steps=most)
            assert [each.field for each in refused.value.violations] == ["steps"]
        else:
            build_scheduler(settings, config, steps=50 if scheduler in DISTILLED else most)


def test_every_build_is_a_new_scheduler():
    settings = SchedulerSettings(Scheduler.UNIPC_MULTISTEP)
    first, second = (build_scheduler(settings, {}, steps=4) for _ in range(2))
    assert first is not second
