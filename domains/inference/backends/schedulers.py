"""A scheduler for one picture, from the model's configuration and the request."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import torch

from domains.errors import FailedPrecondition, FieldViolation, InvalidArgument, Reason
from domains.inference.types import SchedulerSettings, SigmaSpacing, resolved
from domains.model.backends.bounds import Config
from domains.model.backends.constructor import accepted_by

_SWITCHES = {
    SigmaSpacing.KARRAS: "use_karras_sigmas",
    SigmaSpacing.EXPONENTIAL: "use_exponential_sigmas",
    SigmaSpacing.BETA: "use_beta_sigmas",
}
# Spacings that only a model's own configuration can ask for; a requested one replaces them.
_OTHER_SWITCHES = ("use_lu_lambdas", "use_flow_sigmas")


def build_scheduler(settings: SchedulerSettings, config: Config, *, steps: int) -> Any:
    """A new scheduler, set to `steps` steps, its numbers on the CPU.

    Args:
        settings: Class and spacing asked for.
        config: The model's own scheduler configuration, already checked.
        steps: Steps as the user counts them; some schedulers call the UNet twice in one.

    Raises:
        InvalidArgument: The class has no such spacing, or cannot do so many steps.
        FailedPrecondition: MODEL_CONFIG_INVALID when the class refuses the model's
            configuration.
    """
    chosen = resolved(settings.scheduler)
    cls: Any = getattr(diffusers, chosen.value)
    options = dict(config)
    if settings.spacing is not SigmaSpacing.MODEL:
        if settings.spacing not in chosen.facts.spacings:
            raise _unsupported(settings)
        for switch in (*_SWITCHES.values(), *_OTHER_SWITCHES):
            options[switch] = False
        options[_SWITCHES[settings.spacing]] = True
    try:
        scheduler = cls(**accepted_by(cls, options))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise FailedPrecondition(
            "The model's scheduler configuration does not work with the chosen scheduler.",
            reason=Reason.MODEL_CONFIG_INVALID,
        ) from error
    _set_steps(scheduler, steps)
    if hasattr(scheduler, "set_begin_index"):
        # Otherwise the first step searches for its place, which waits for the device.
        scheduler.set_begin_index(0)
    return scheduler


def step_options(
    scheduler: Any, settings: SchedulerSettings, generator: torch.Generator
) -> dict[str, Any]:
    """What this scheduler's `step` takes besides prediction, timestep and sample."""
    parameters = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {}
    if "eta" in parameters:
        options["eta"] = settings.eta
    if "generator" in parameters:
        options["generator"] = generator
    return options


def _set_steps(scheduler: Any, steps: int) -> None:
    try:
        scheduler.set_timesteps(steps)
    except (ValueError, IndexError) as error:
        raise InvalidArgument(
            f"The chosen scheduler cannot do {steps} steps with this model.",
            violations=(
                FieldViolation("steps", Reason.FIELD_OUT_OF_RANGE, "Not possible here."),
            ),
        ) from error


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
