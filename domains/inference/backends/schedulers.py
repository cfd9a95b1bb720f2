"""A scheduler for one picture, from the model's configuration and the request."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_euler_discrete import rescale_zero_terminal_snr

from domains.device.backends import faults
from domains.errors import FailedPrecondition, FieldViolation, InvalidArgument, Reason
from domains.inference.backends.ancestral import ANCESTRAL
from domains.inference.types import (
    DdimOptions,
    Scheduler,
    SchedulerSettings,
    SigmaSpacing,
    SolverAlgorithm,
    SolverOptions,
    TimestepSpacing,
    resolved,
)
from domains.model.backends.bounds import Config
from domains.model.backends.constructor import accepted_by, named_parameters

_SWITCHES = {
    SigmaSpacing.KARRAS: "use_karras_sigmas",
    SigmaSpacing.EXPONENTIAL: "use_exponential_sigmas",
    SigmaSpacing.BETA: "use_beta_sigmas",
}
# Spacings that only a model's own configuration can ask for; a requested one replaces them.
_OTHER_SWITCHES = ("use_lu_lambdas", "use_flow_sigmas")
# DEIS writes what DPM-Solver reads as an algorithm of its own, and means this one by it.
_DEIS, _DEIS_IN_DPM_SOLVERS = "deis", "dpmsolver++"
_DPM_SOLVERS = frozenset({Scheduler.DPM_SOLVER_MULTISTEP, Scheduler.DPM_SOLVER_SINGLESTEP})
_NEVER_AT_ZERO = frozenset({SolverAlgorithm.DPMSOLVER, SolverAlgorithm.SDE_DPMSOLVER})
"""Their formulas have no step to a noise level of 0."""
_ZERO_SNR = "rescale_betas_zero_snr"
_LAST_ALPHA = 2.0**-24
# What decides how many steps there can be, and a number of them that every class can do.
_OF_THE_STEPS = ("num_train_timesteps", "original_inference_steps", "timestep_spacing")
_TRIED_STEPS = 20


def build_scheduler(
    settings: SchedulerSettings, config: Config, *, steps: int, skipped: int = 0
) -> Any:
    """A new scheduler, set to `steps` steps, its numbers on the CPU.

    Args:
        settings: Class, spacings and options asked for, which the class has.
        config: The model's own scheduler configuration, already checked.
        steps: Steps as the user counts them; some schedulers call the UNet twice in one.
        skipped: How many of them are left out at the beginning, fewer than all.

    Raises:
        InvalidArgument: The options that are asked for, or so many steps, do not go together
            with the model's configuration.
        FailedPrecondition: MODEL_CONFIG_INVALID when the class cannot draw with the
            model's configuration.
    """
    _check(settings, json.dumps(config, sort_keys=True), steps, skipped)
    return _begun(_made(settings, config, steps), skipped)


def step_options(
    scheduler: Any, settings: SchedulerSettings, generator: torch.Generator
) -> dict[str, Any]:
    """What this scheduler's `step` takes besides prediction, timestep and sample."""
    options: dict[str, Any] = {}
    if settings.scheduler is Scheduler.DDIM:
        options["eta"] = (settings.ddim or DdimOptions()).eta
    asked = settings.ancestral
    if settings.scheduler is Scheduler.TCD and asked is not None and asked.eta is not None:
        options["eta"] = asked.eta
    if settings.churn is not None:
        options |= {
            "s_churn": settings.churn.churn,
            "s_tmin": settings.churn.least_sigma,
            "s_noise": settings.churn.noise,
        }
        if settings.churn.greatest_sigma is not None:
            options["s_tmax"] = settings.churn.greatest_sigma
    if settings.linear_multistep is not None:
        options["order"] = settings.linear_multistep.order
    if "generator" in named_parameters(type(scheduler).step):
        options["generator"] = generator
    return options


def _options(settings: SchedulerSettings, config: Config) -> Config:
    """The model's configuration as the class reads it, with what is asked for in it."""
    options = dict(config)
    if options.get("algorithm_type") == _DEIS and resolved(settings.scheduler) in _DPM_SOLVERS:
        options["algorithm_type"] = _DEIS_IN_DPM_SOLVERS
    if settings.spacing is not SigmaSpacing.MODEL or settings.sigmas:
        for switch in (*_SWITCHES.values(), *_OTHER_SWITCHES):
            options[switch] = False
        if settings.spacing in _SWITCHES:
            options[_SWITCHES[settings.spacing]] = True
    if settings.scheduler is Scheduler.UNIPC_MULTISTEP:
        # Its last step goes to 0, which is no number in a higher order.
        options.pop("lower_order_final", None)
    if settings.timestep_spacing is not TimestepSpacing.MODEL:
        options["timestep_spacing"] = settings.timestep_spacing.value
    if settings.zero_terminal_snr is not None:
        options[_ZERO_SNR] = settings.zero_terminal_snr
    return options | _solver_options(settings.solver or SolverOptions())


def _solver_options(asked: SolverOptions) -> Config:
    options: dict[str, Any] = {}
    if asked.order is not None:
        options["solver_order"] = asked.order
    if asked.lower_order_final is not None:
        options["lower_order_final"] = asked.lower_order_final
    if asked.algorithm is not SolverAlgorithm.MODEL:
        options["algorithm_type"] = asked.algorithm.value
        if asked.algorithm in _NEVER_AT_ZERO:
            options["final_sigmas_type"] = "sigma_min"
    return options


def _made(settings: SchedulerSettings, config: Config, steps: int) -> Any:
    options = _options(settings, config)
    cls = _class(settings)
    accepted = accepted_by(cls, options)
    scheduler = cls(**accepted)
    if options.get(_ZERO_SNR) is True and _ZERO_SNR not in accepted:
        scheduler = cls(**accepted | {"trained_betas": _zero_snr(scheduler.betas).tolist()})
    if settings.ancestral is not None and settings.scheduler in ANCESTRAL:
        scheduler.share = settings.ancestral
    if settings.sigmas:
        scheduler.set_timesteps(sigmas=[*settings.sigmas, 0.0])
    else:
        scheduler.set_timesteps(steps)
    return scheduler


def _class(settings: SchedulerSettings) -> Any:
    if settings.ancestral is not None and settings.scheduler in ANCESTRAL:
        return ANCESTRAL[settings.scheduler]
    return getattr(diffusers, resolved(settings.scheduler).value)


def _begun(scheduler: Any, skipped: int) -> Any:
    if hasattr(scheduler, "set_begin_index"):
        # Otherwise the first step searches for its place, which waits for the device.
        scheduler.set_begin_index(skipped * scheduler.order)
    return scheduler


def _zero_snr(betas: torch.Tensor) -> torch.Tensor:
    """Betas that end in noise alone, for the classes that have no switch for it.

    Sources: arXiv:2305.08891, section 3.1; what is left of the picture in the last timestep,
    so that its noise level is finite, is what diffusers' Euler leaves (4096 at most).

    Args:
        betas: Of each timestep, float32.
    """
    rescaled = rescale_zero_terminal_snr(betas)
    left = torch.cumprod(1.0 - rescaled[:-1], dim=0)[-1]
    rescaled[-1] = 1.0 - _LAST_ALPHA / left
    return rescaled


@lru_cache(maxsize=256)
def _check(settings: SchedulerSettings, config: str, steps: int, skipped: int) -> None:
    """Take every step once with next to no numbers; what fails, fails before the UNet runs.

    Whose fault that is shows without the rest of the model's configuration, without the
    request's options, and with other steps.
    """
    own, name = json.loads(config), resolved(settings.scheduler).value
    error = _trial(settings, own, steps, skipped)
    if error is None:
        return
    bare = {key: own[key] for key in _OF_THE_STEPS if key in own}
    plain = SchedulerSettings(settings.scheduler)
    impossible = _trial(settings, bare, steps, skipped) is not None
    if impossible and _trial(settings, bare, _TRIED_STEPS, 0) is None:
        raise _refused(
            "steps",
            Reason.FIELD_OUT_OF_RANGE,
            f"{name} cannot do {steps} steps with this model; ask for a few more or fewer.",
        ) from error
    if _trial(plain, own, steps, skipped) is None:
        raise _refused(
            "scheduler",
            Reason.FIELDS_CONFLICT,
            f"{name} cannot draw with these options and this model; leave some of them out.",
        ) from error
    raise FailedPrecondition(
        f"The model's scheduler/scheduler_config.json does not work with {name}; choose "
        "another scheduler, or correct the file.",
        reason=Reason.MODEL_CONFIG_INVALID,
        metadata={"component": "scheduler", "scheduler": name, "cause": type(error).__name__},
    ) from error


def _trial(
    settings: SchedulerSettings, config: Config, steps: int, skipped: int
) -> Exception | None:
    """Why a scheduler cannot draw a picture in so many steps; None if it can."""
    latents = torch.ones(1, 1, 1, 1)
    try:
        scheduler = _begun(_made(settings, config, steps), skipped)
        timesteps = scheduler.timesteps
        if not bool(torch.isfinite(timesteps).all()) or not bool((timesteps >= 0).all()):
            raise ValueError("timesteps that are none")
        how = step_options(scheduler, settings, torch.Generator().manual_seed(0))
        for timestep in timesteps[skipped * scheduler.order :]:
            sample = scheduler.scale_model_input(latents, timestep)
            stepped = scheduler.step(sample, timestep, latents, **how, return_dict=False)[0]
            if not bool(torch.isfinite(stepped).all()):
                raise ValueError("steps to what is no number")
    except Exception as error:
        if faults.is_shortage(error):
            raise
        # The library raises whatever the wrong value leads to.
        return error
    return None


def _refused(field: str, reason: Reason, message: str) -> InvalidArgument:
    return InvalidArgument(
        message, reason=reason, violations=(FieldViolation(field, reason, message),)
    )
