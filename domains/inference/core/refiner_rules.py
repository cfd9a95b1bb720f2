"""The rules that a refiner must keep; every broken one is listed."""

from __future__ import annotations

from collections.abc import Iterator

from domains.errors import FieldViolation, Reason
from domains.inference.core.later_parts import own_steps
from domains.inference.core.plain_rules import plain
from domains.inference.core.sampling_rules import (
    check_guidance,
    check_scheduler,
    schedulers_for,
)
from domains.inference.types import (
    GenerationSettings,
    RefinerMode,
    Scheduler,
    steps_by_strength,
)
from domains.model.types import Model


def check_refiner(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """Rules that a refiner must keep whatever it is: it and the model before it have to have
    steps. Where the schedule is cut depends on the model, and is looked at where it runs."""
    refiner = settings.refiner
    if refiner is None:
        return
    broken = [
        *plain(refiner, "Refiner", path),
        *check_guidance(refiner.guidance, f"{path}.guidance"),
    ]
    yield from broken
    if broken:
        return
    steps = own_steps(refiner, settings)
    if settings.scheduler.sigmas and steps != settings.steps:
        yield FieldViolation(
            f"{path}.steps",
            Reason.FIELDS_CONFLICT,
            "scheduler.sigmas lists a noise level for each step, the refiner's too; leave its "
            "steps out.",
        )
    if refiner.mode is RefinerMode.HANDOVER and refiner.switch_at == 0:
        why = (
            "Leaves no step to the model; must be greater than 0, or name the refiner as the "
            "model."
        )
    elif refiner.mode is RefinerMode.HANDOVER and refiner.switch_at == 1:
        why = "Leaves no step to the refiner; must be less than 1, or leave the refiner out."
    elif refiner.mode is not RefinerMode.HANDOVER and not steps_by_strength(
        steps, refiner.strength
    ):
        why = (
            f"Leaves no step of {steps} to the refiner; must be at most 1 minus 1 divided by "
            f"the steps ({1 - 1 / max(steps, 1):.3g}), or its steps more."
        )
    else:
        return
    yield FieldViolation(f"{path}.switch_at", Reason.FIELD_OUT_OF_RANGE, why)


def check_refining_model(
    settings: GenerationSettings,
    scheduler: Scheduler,
    refiner: Model | None,
    model: Model,
    path: str,
) -> list[FieldViolation]:
    """Rules that depend on which models the request comes to use."""
    if refiner is None:
        return []
    violations = []
    if refiner.model_id == model.model_id:
        violations.append(
            FieldViolation(
                f"{path}.sdxl.refiner.model_id",
                Reason.FIELDS_CONFLICT,
                f"{model.model_id} cannot refine its own picture; name another, or give it "
                "more steps.",
            )
        )
    if scheduler in schedulers_for(model) and scheduler not in schedulers_for(refiner):
        violations += check_scheduler(settings, scheduler, refiner, path)[:1]
    return violations
