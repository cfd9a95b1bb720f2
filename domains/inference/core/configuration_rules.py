"""Models' own scheduler configurations that a sampler cannot draw with, refused before anything
is queued."""

from __future__ import annotations

from domains.errors import FailedPrecondition, Reason
from domains.inference.core.schedules import (
    DISTILLED,
    DPM_SOLVERS,
    FLOW,
    NEVER_AT_ZERO,
    SDE,
    Schedule,
    schedules_of,
)
from domains.inference.types import GenerationSettings, Scheduler, TimestepSpacing
from domains.model.types import Model

_OF_DEIS = frozenset({"deis", "dpmsolver", "dpmsolver++"})
# They take no step of a higher order between two timesteps that are one.
_OF_UNLIKE_TIMESTEPS = frozenset(
    {
        Scheduler.DPM_SOLVER_MULTISTEP,
        Scheduler.DEIS_MULTISTEP,
        Scheduler.UNIPC_MULTISTEP,
        Scheduler.LMS_DISCRETE,
    }
)
# Spacings that they make into timesteps by a table that flow's noise levels are not in.
_NEVER_WITH_FLOW = {
    Scheduler.DPM_SOLVER_MULTISTEP: ("karras", "exponential", "beta", "lu"),
    Scheduler.DPM_SOLVER_SINGLESTEP: ("karras", "exponential", "beta"),
    Scheduler.DEIS_MULTISTEP: ("karras", "exponential", "beta"),
    Scheduler.UNIPC_MULTISTEP: ("exponential", "beta"),
}


def check_configurations(
    settings: GenerationSettings, scheduler: Scheduler, model: Model, refiner: Model | None
) -> None:
    """Refuse a sampler that cannot draw with a model's own scheduler configuration.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID, naming both.
    """
    for schedule in schedules_of(settings, scheduler, model, refiner):
        why = _misfit(schedule)
        if why:
            name = scheduler.value
            raise FailedPrecondition(
                f"{schedule.model.model_id}'s scheduler/scheduler_config.json does not work "
                f"with {name}: {why}; choose another scheduler, or correct the file.",
                reason=Reason.MODEL_CONFIG_INVALID,
                metadata={"component": "scheduler", "scheduler": name},
            )


def _misfit(schedule: Schedule) -> str:
    """What of the model's configuration the sampler cannot do; empty where it can."""
    if schedule.scheduler in DISTILLED and schedule.distilled > schedule.trained:
        return "its original_inference_steps are more than its num_train_timesteps"
    return (
        _of_flow(schedule)
        or _of_solvers(schedule)
        or _of_unipc(schedule)
        or _of_offset(schedule)
    )


def _of_flow(schedule: Schedule) -> str:
    never = _NEVER_WITH_FLOW.get(schedule.scheduler, ())
    if FLOW in schedule.switches:
        for switch in schedule.switches:
            if switch.removeprefix("use_").partition("_")[0] in never:
                return f"it asks for {switch} and {FLOW} at once"
    return ""


def _of_solvers(schedule: Schedule) -> str:
    algorithm = schedule.algorithm
    if schedule.scheduler is Scheduler.DEIS_MULTISTEP:
        return "" if algorithm in _OF_DEIS else f"it has no algorithm {algorithm}"
    if schedule.scheduler not in DPM_SOLVERS or schedule.asks_for_algorithm:
        return ""
    if schedule.scheduler is Scheduler.DPM_SOLVER_SINGLESTEP and algorithm == SDE:
        return f"it has no algorithm {algorithm}"
    if algorithm in NEVER_AT_ZERO and schedule.ends_at_zero:
        return f"the algorithm {algorithm} has no step to the final_sigmas_type zero"
    return ""


def _of_unipc(schedule: Schedule) -> str:
    if schedule.scheduler is not Scheduler.UNIPC_MULTISTEP:
        return ""
    if schedule.said("use_dynamic_shifting", False) is True:
        return "use_dynamic_shifting is for models of another kind"
    if schedule.said("shift_terminal", None) and FLOW not in schedule.switches:
        return "shift_terminal is for models of another kind"
    noise = schedule.said("predict_x0", True) is False
    if schedule.ends_at_zero and (noise or schedule.said("solver_type", "bh2") == "bh1"):
        return "without predict_x0, or with solver_type bh1, there is no step to noise of 0"
    return ""


def _of_offset(schedule: Schedule) -> str:
    """Timesteps behind those of the training, by the steps_offset."""
    if schedule.spacing is not TimestepSpacing.LEADING:
        return ""
    last, timesteps = schedule.trained - 1, schedule.leading[schedule.skipped :]
    beyond = timesteps[0] > last
    # Noise levels beyond the last are taken to be the last.
    same = len(timesteps) > 2 and timesteps[1] >= last and schedule.order > 1
    if (beyond and schedule.scheduler is Scheduler.DDIM) or (
        same and schedule.scheduler in _OF_UNLIKE_TIMESTEPS
    ):
        return f"with its steps_offset {schedule.steps} steps go beyond its timesteps"
    return ""
