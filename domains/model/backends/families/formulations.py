"""Schedulers of other ways to add noise, and those that another one stands in for.

A model trained on another formulation draws noise with any scheduler that is here, so it is
refused by name. Sources: `diffusers/schedulers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.errors import FailedPrecondition, Reason

DRAWN_WITH = frozenset(
    {
        *("DDIMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler"),
        *("DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler"),
        *("EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
        *("KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "UniPCMultistepScheduler"),
        *("LCMScheduler", "TCDScheduler"),
    }
)
"""Schedulers that pictures are drawn with, as diffusers calls their classes."""
_FORMULATIONS = {
    "CosineDPMSolver": "EDM",
    "EDM": "EDM",
    "FlowMatch": "flow matching",
    "Cogvideo": "CogVideoX's schedule",
    "CogVideoX": "CogVideoX's schedule",
    "Consistency": "consistency training",
    "CMStochastic": "consistency training",
    "VQDiffusion": "discrete noise",
    "Amused": "discrete noise",
    "RePaint": "RePaint",
    "ScoreSde": "score matching",
    "UnCLIP": "unCLIP's schedule",
    "DDPMWuerstchen": "Stable Cascade's schedule",
}


def check_formulation(scheduler: Mapping[str, Any]) -> None:
    """Refuse a model whose scheduler adds noise in a way that is not done here.

    Raises:
        FailedPrecondition: MODEL_INCOMPATIBLE, which names the scheduler.
    """
    name = scheduler.get("_class_name")
    if not isinstance(name, str):
        return
    way = next((way for start, way in _FORMULATIONS.items() if name.startswith(start)), "")
    if way:
        shown = name[:64] if name.isascii() and name.isidentifier() else "its scheduler"
        raise FailedPrecondition(
            f"The model was trained with {way} ({shown}), which this version does not draw "
            "with; any other scheduler would give noise.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"scheduler": shown},
        )


def stand_in(scheduler_class: str) -> str:
    """A sentence on the scheduler that stands in for a model's own; empty where none does."""
    if not scheduler_class or scheduler_class in DRAWN_WITH:
        return ""
    return f"Its own scheduler, {scheduler_class}, is not here; DPM++ 2M stands in for it."
