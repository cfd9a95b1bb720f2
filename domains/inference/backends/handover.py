"""Where a refiner takes over: after which calls of the UNet, and with which schedule.

The cuts are those of diffusers' pipelines: `denoising_end` of StableDiffusionXLPipeline,
`denoising_start` and `strength` in `get_timesteps` of its Img2ImgPipeline. With schedulers that
call the UNet twice a step, one may do the first half of a step that the other does again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.inference.backends.schedulers import build_scheduler
from domains.inference.types import (
    GenerationSettings,
    Refiner,
    RefinerMode,
    resolved,
    steps_by_strength,
)
from domains.model.backends.bounds import Config

_FIELD = "sdxl.refiner.switch_at"
# What diffusers takes where a configuration does not say.
_USUAL_PREDICTION = "epsilon"


@dataclass(frozen=True)
class Division:
    """How the steps of a picture are divided between a model and its refiner.

    `end` is the first of the model's UNet calls that is left to the refiner; None where it does
    all of its schedule. Steps are as the user counts them.
    """

    end: int | None
    own_steps: int
    refiner_steps: int


@dataclass(frozen=True)
class RefinerSchedule:
    """A scheduler set to begin with the UNet's call `first`, for `steps` steps."""

    scheduler: Any
    first: int
    steps: int


def divide(settings: GenerationSettings, model: Config, refiner: Config) -> Division:
    """Divide the steps of resolved settings that name a refiner.

    Args:
        settings: Theirs.
        model: The model's scheduler configuration.
        refiner: The refiner's own.

    Raises:
        InvalidArgument: One of the two would have nothing to do; also as `build_scheduler`.
    """
    asked = resolved(settings.refiner)
    theirs = schedule(settings, model, refiner).steps
    if asked.mode is RefinerMode.IMAGE_TO_IMAGE:
        return Division(None, settings.steps_taken, theirs)
    own = build_scheduler(
        settings.scheduler, model, steps=settings.steps, skipped=settings.skipped_steps
    )
    first, cutoff = settings.skipped_steps * own.order, _cutoff(own, asked)
    calls = sum(bool(timestep >= cutoff) for timestep in own.timesteps[first:])
    if not calls:
        raise _nothing_left("model", "greater", settings.steps_taken)
    return Division(first + calls, _steps(calls, own), theirs)


def schedule(settings: GenerationSettings, model: Config, refiner: Config) -> RefinerSchedule:
    """A fresh schedule for the refiner's part of one picture.

    Latents that are handed over have the noise of the model's schedule, so that the refiner
    goes on with that; what it predicts is its own matter. A finished picture is noised by the
    refiner's own.

    Args:
        settings: Resolved.
        model: The model's scheduler configuration.
        refiner: The refiner's own.

    Raises:
        InvalidArgument: It would have nothing to do; also as `build_scheduler`.
    """
    asked = resolved(settings.refiner)
    steps = resolved(asked.steps)
    if asked.mode is RefinerMode.IMAGE_TO_IMAGE:
        taken = steps_by_strength(steps, asked.strength)
        scheduler = build_scheduler(
            settings.scheduler, refiner, steps=steps, skipped=steps - taken
        )
        return RefinerSchedule(scheduler, (steps - taken) * scheduler.order, taken)
    predicted = refiner.get("prediction_type", _USUAL_PREDICTION)
    scheduler = build_scheduler(
        settings.scheduler, {**model, "prediction_type": predicted}, steps=steps
    )
    calls = int((scheduler.timesteps < _cutoff(scheduler, asked)).sum())
    if not calls:
        raise _nothing_left("refiner", "less", steps)
    if scheduler.order == 2 and calls % 2 == 0:
        calls += 1  # never the second half of a step without its first
    first = len(scheduler.timesteps) - calls
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return RefinerSchedule(scheduler, first, _steps(calls, scheduler))


def _cutoff(scheduler: Any, refiner: Refiner) -> int:
    """The timestep below which the refiner works."""
    count: int = scheduler.config.num_train_timesteps
    return round(count - refiner.switch_at * count)


def _steps(calls: int, scheduler: Any) -> int:
    """Steps as the user counts them, the last of which may be half of one."""
    order: int = scheduler.order
    return -(-calls // order)


def _nothing_left(who: str, direction: str, steps: int) -> InvalidArgument:
    message = (
        f"None of {steps} steps is left to the {who}; switch_at must be {direction}, or the "
        "steps more."
    )
    return InvalidArgument(
        message, violations=(FieldViolation(_FIELD, Reason.FIELD_OUT_OF_RANGE, message),)
    )
