"""The table of spacings is the library's, and odd configurations are refused."""

from __future__ import annotations

import inspect

import diffusers
import pytest

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.schedulers import build_scheduler
from domains.inference.types import SPACINGS, Scheduler, SchedulerSettings, SigmaSpacing

SWITCHES = {
    SigmaSpacing.KARRAS: "use_karras_sigmas",
    SigmaSpacing.EXPONENTIAL: "use_exponential_sigmas",
    SigmaSpacing.BETA: "use_beta_sigmas",
}


@pytest.mark.parametrize("scheduler", Scheduler)
def test_spacings_are_what_the_class_takes(scheduler):
    parameters = inspect.signature(getattr(diffusers, scheduler.value)).parameters
    taken = {spacing for spacing, switch in SWITCHES.items() if switch in parameters}
    assert SPACINGS[scheduler] == taken | {SigmaSpacing.MODEL}


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


def test_every_build_is_a_new_scheduler():
    settings = SchedulerSettings(Scheduler.UNIPC_MULTISTEP)
    first, second = (build_scheduler(settings, {}, steps=4) for _ in range(2))
    assert first is not second
