"""A scheduler for one picture, from the model's configuration and the request."""

from __future__ import annotations

import inspect
import json
from functools import lru_cache
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_euler_discrete import rescale_zero_terminal_snr

from domains.device.backends import faults
from domains.errors import FailedPrecondition, FieldViolation, InvalidArgument, Reason
from domains.inference.types import (
    DdimOptions,
    Scheduler,
    SchedulerSettings,
    SigmaSpacing,
    resolved,
)
from domains.model.backends.bounds import Config
from domains.model.backends.constructor import accepted_by

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
_ZERO_SNR = "rescale_betas_zero_snr"
_LAST_ALPHA = 2.0**-24
# What every class takes where a configuration does not say.
_USUAL_TIMESTEPS = 1000


def build_scheduler(
    settings: SchedulerSettings, config: Config, *, steps: int, skipped: int = 0
) -> Any:
    """A new scheduler, set to `steps` steps, its numbers on the CPU.

    Args:
        settings: Class and spacing asked for.
        config: The model's own scheduler configuration, already checked.
        steps: Steps as the user counts them; some schedulers call the UNet twice in one.
        skipped: How many of them are left out at the beginning, fewer than all.

    Raises:
        InvalidArgument: The class has no such spacing, or `steps` are more than the model
            has timesteps.
        FailedPrecondition: MODEL_CONFIG_INVALID when the class cannot draw with the
            model's configuration.
    """
    options = _options(settings, config)
    _check(settings, json.dumps(options, sort_keys=True), steps, skipped)
    return _begun(_made(settings, options, steps), skipped)


def step_options(
    scheduler: Any, settings: SchedulerSettings, generator: torch.Generator
) -> dict[str, Any]:
    """What this scheduler's `step` takes besides prediction, timestep and sample."""
    parameters = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {}
    if "eta" in parameters:
        options["eta"] = (settings.ddim or DdimOptions()).eta
    if "generator" in parameters:
        options["generator"] = generator
    return options


def _options(settings: SchedulerSettings, config: Config) -> Config:
    """The model's configuration as the class reads it, with the spacing that is asked for."""
    options = dict(config)
    if options.get("algorithm_type") == _DEIS and resolved(settings.scheduler) in _DPM_SOLVERS:
        options["algorithm_type"] = _DEIS_IN_DPM_SOLVERS
    if settings.spacing is not SigmaSpacing.MODEL:
        if settings.spacing not in resolved(settings.scheduler).facts.spacings:
            raise _unsupported(settings)
        for switch in (*_SWITCHES.values(), *_OTHER_SWITCHES):
            options[switch] = False
        if settings.spacing is not SigmaSpacing.EVEN:
            options[_SWITCHES[settings.spacing]] = True
    return options


def _made(settings: SchedulerSettings, options: Config, steps: int) -> Any:
    cls: Any = getattr(diffusers, resolved(settings.scheduler).value)
    accepted = accepted_by(cls, options)
    scheduler = cls(**accepted)
    if options.get(_ZERO_SNR) is True and _ZERO_SNR not in accepted:
        scheduler = cls(**accepted | {"trained_betas": _zero_snr(scheduler.betas).tolist()})
    scheduler.set_timesteps(steps)
    return scheduler


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
def _check(settings: SchedulerSettings, options: str, steps: int, skipped: int) -> None:
    """Take every step once with next to no numbers; what fails, fails before the UNet runs.

    That is the configuration's fault, unless more steps are asked for than it has timesteps.
    """
    config, name = json.loads(options), resolved(settings.scheduler).value
    error = _trial(settings, config, steps, skipped)
    if error is None:
        return
    if steps > config.get("num_train_timesteps", _USUAL_TIMESTEPS):
        raise InvalidArgument(
            f"{name} cannot do {steps} steps with this model; ask for fewer.",
            violations=(
                FieldViolation("steps", Reason.FIELD_OUT_OF_RANGE, "Not possible here."),
            ),
        ) from error
    raise FailedPrecondition(
        f"The model's scheduler/scheduler_config.json does not work with {name}; choose "
        "another scheduler, or correct the file.",
        reason=Reason.MODEL_CONFIG_INVALID,
        metadata={"component": "scheduler", "scheduler": name, "cause": type(error).__name__},
    ) from error


def _trial(
    settings: SchedulerSettings, options: Config, steps: int, skipped: int
) -> Exception | None:
    """Why a scheduler cannot draw a picture in so many steps; None if it can."""
    latents = torch.ones(1, 1, 1, 1)
    try:
        scheduler = _begun(_made(settings, options, steps), skipped)
        if not bool(torch.isfinite(scheduler.timesteps).all()):
            raise ValueError("timesteps that are no numbers")
        how = step_options(scheduler, settings, torch.Generator().manual_seed(0))
        for timestep in scheduler.timesteps[skipped * scheduler.order :]:
            sample = scheduler.scale_model_input(latents, timestep)
            scheduler.step(sample, timestep, latents, **how)
    except Exception as error:
        if faults.is_shortage(error):
            raise
        # The library raises whatever the wrong value leads to.
        return error
    return None


def _unsupported(settings: SchedulerSettings) -> InvalidArgument:
    message = (
        f"{resolved(settings.scheduler).value} has no {settings.spacing.value} spacing; "
        "leave the spacing to the model."
    )
    return InvalidArgument(
        message,
        reason=Reason.FIELDS_CONFLICT,
        violations=(FieldViolation("scheduler.spacing", Reason.FIELDS_CONFLICT, message),),
    )
