"""Schedules that are sure to be none, whatever else the model's own configuration says; the
device looks at every schedule again, before any step."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from domains.errors import FieldViolation, Reason
from domains.inference.types import GenerationSettings, Scheduler, TimestepSpacing
from domains.model.types import Model, PredictionType

# Of the training of every model that is known here.
_TRAINED_TIMESTEPS = 1000
# They divide by what is left of the picture, and reach the last timestep with these spacings;
# those without spacings always do.
_DIVIDING = {
    Scheduler.DDIM: frozenset({TimestepSpacing.TRAILING}),
    Scheduler.LCM: frozenset({TimestepSpacing.MODEL}),
    Scheduler.TCD: frozenset({TimestepSpacing.MODEL}),
}


def check_schedules(
    settings: GenerationSettings, scheduler: Scheduler, model: Model, path: str
) -> Iterator[FieldViolation]:
    """Refuse steps that cannot be spaced so, and a division by nothing."""
    again, refiner, asked = settings.second_pass, settings.refiner, settings.scheduler
    if asked.timestep_spacing is TimestepSpacing.TRAILING:
        for field, steps in (
            ("steps", settings.steps),
            ("second_pass.steps", again and again.steps),
            ("sdxl.refiner.steps", refiner and refiner.steps),
        ):
            if steps and not _can_trail(steps):
                fewer = next(n for n in range(steps, 0, -1) if _can_trail(n))
                more = next(n for n in range(steps, 2 * steps) if _can_trail(n))
                yield FieldViolation(
                    f"{path}.{field}",
                    Reason.FIELD_OUT_OF_RANGE,
                    f"{steps} cannot be spaced TRAILING: they come to a timestep below 0; ask "
                    f"for {fewer} or {more}, or choose another spacing.",
                )
    if (
        asked.zero_terminal_snr
        and model.prediction_type is PredictionType.EPSILON
        and asked.timestep_spacing in _DIVIDING.get(scheduler, ())
        and not settings.skipped_steps
    ):
        yield FieldViolation(
            f"{path}.scheduler.zero_terminal_snr",
            Reason.FIELDS_CONFLICT,
            f"{scheduler.name} cannot begin with noise alone with a model that predicts noise: "
            "it divides by what is left of the picture; leave it out, or take EULER_DISCRETE.",
        )


def _can_trail(steps: int) -> bool:
    """Whether numpy's `arange(1000, 0, -1000 / steps)`, which diffusers uses, has so many."""
    return ceil(-_TRAINED_TIMESTEPS / (-_TRAINED_TIMESTEPS / steps)) == steps
