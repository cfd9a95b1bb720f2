"""Schedules that are none, refused before anything is queued; the device looks at every
schedule again, before any step."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from domains.errors import FieldViolation, Reason
from domains.inference.core.schedules import DISTILLED, FLOW, SDE, Schedule, schedules_of
from domains.inference.types import (
    GenerationSettings,
    Scheduler,
    SolverOptions,
    TimestepSpacing,
)
from domains.model.types import Model, PredictionType

_DIVIDING = DISTILLED | {Scheduler.DDIM}
"""They divide by what is left of the picture."""
# Below so many steps the last ones are of a lower order, unless that is switched off.
_FEW_STEPS = 15


def check_schedules(
    settings: GenerationSettings,
    scheduler: Scheduler,
    model: Model,
    path: str,
    refiner: Model | None = None,
) -> list[FieldViolation]:
    """What of a request comes to no schedule, each field once."""
    found: dict[str, FieldViolation] = {}
    for schedule in schedules_of(settings, scheduler, model, refiner):
        for rule in (_steps, _division, _third_order):
            for violation in rule(schedule, path):
                found.setdefault(violation.field, violation)
    return list(found.values())


def _steps(schedule: Schedule, path: str) -> Iterator[FieldViolation]:
    steps, trained = schedule.steps, schedule.trained
    if schedule.spacing is TimestepSpacing.TRAILING and not _can_trail(steps, trained):
        fewer = next(n for n in range(steps, 0, -1) if _can_trail(n, trained))
        more = next(n for n in range(steps, 2 * steps) if _can_trail(n, trained))
        yield FieldViolation(
            f"{path}.{schedule.field}",
            Reason.FIELD_OUT_OF_RANGE,
            f"{steps} cannot be spaced TRAILING: they come to a timestep below 0; ask "
            f"for {fewer} or {more}, or choose another spacing.",
        )
    if schedule.scheduler in DISTILLED and schedule.distilled < steps:
        yield FieldViolation(
            f"{path}.{schedule.field}",
            Reason.FIELD_OUT_OF_RANGE,
            f"{schedule.scheduler.name} does at most {schedule.distilled} with "
            f"{schedule.model.model_id}; ask for fewer.",
        )


def _division(schedule: Schedule, path: str) -> Iterator[FieldViolation]:
    """Noise alone, of which a prediction of noise tells nothing about the picture."""
    if (
        schedule.ends_in_noise
        and schedule.prediction in (None, PredictionType.EPSILON)
        and schedule.scheduler in _DIVIDING
        and schedule.first == schedule.trained - 1
        and not schedule.skipped
    ):
        own = schedule.asked.zero_terminal_snr is None
        way_out = (
            f"{schedule.model.model_id} does by its own configuration: set it to false"
            if own
            else "leave it out"
        )
        yield FieldViolation(
            f"{path}.scheduler.zero_terminal_snr",
            Reason.FIELDS_CONFLICT,
            f"{schedule.scheduler.name} cannot begin with noise alone with a model that "
            f"predicts noise: it divides by what is left of the picture; {way_out}, or take "
            "EULER_DISCRETE.",
        )


def _third_order(schedule: Schedule, path: str) -> Iterator[FieldViolation]:
    """Steps of the third order for which there is no formula, or that divide by nothing."""
    steps, taken = schedule.steps, schedule.steps - schedule.skipped
    if schedule.scheduler is not Scheduler.DPM_SOLVER_MULTISTEP or schedule.order != 3:
        return
    asked = schedule.asked.solver or SolverOptions()
    lower = asked.lower_order_final
    if lower is None:
        lower = schedule.said("lower_order_final", True) is True
    # The first two are of a lower order, and the last ones may be.
    lower = lower and steps < _FEW_STEPS
    field = f"{path}.scheduler.solver.order"
    if schedule.algorithm == SDE and taken >= (5 if lower else 3):
        yield FieldViolation(
            field,
            Reason.FIELDS_CONFLICT,
            "SDE_DPMSOLVER has no steps of order 3; take 1 or 2, or another algorithm.",
        )
    elif (
        taken >= 3
        and not (lower or schedule.ends_at_zero)
        and schedule.said("euler_at_final", False) is not True
        and any(switch != FLOW for switch in schedule.switches)
    ):
        yield FieldViolation(
            field,
            Reason.FIELDS_CONFLICT,
            f"With {schedule.algorithm} and this spacing the last two noise levels are one, "
            "between which there is no step of order 3; take 1 or 2, or set "
            f"lower_order_final and fewer than {_FEW_STEPS} steps.",
        )


def _can_trail(steps: int, trained: int) -> bool:
    """Whether numpy's `arange(1000, 0, -1000 / steps)`, which diffusers uses, has so many."""
    return ceil(-trained / (-trained / steps)) == steps
