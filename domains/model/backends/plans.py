"""The plan of a model, whatever it lies on disk as."""

from __future__ import annotations

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.checkpoint import inspect_checkpoint
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.backends.diffusers_folder import inspect_folder
from domains.model.backends.families.registry import FAMILIES
from domains.model.backends.model_plan import ModelPlan
from domains.model.types import ModelType


def plan_model(files: ConfinedFiles) -> ModelPlan:
    """Check everything of a model that can be checked without its weights' numbers.

    Args:
        files: A folder in the diffusers layout, or a checkpoint in one file.

    Raises: As `inspect_folder` and `inspect_checkpoint`; MODEL_INCOMPATIBLE for a refiner that
        is used with the networks of a checkpoint.
    """
    plan = inspect_checkpoint(files) if files.has_file("") else inspect_folder(files)
    if plan.borrowed:
        raise FailedPrecondition(
            f"The refiner has no {' and no '.join(plan.borrowed)} of its own: it takes those "
            "of the checkpoint whose pictures it refines, which comes later.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"component": plan.borrowed[0]},
        )
    return plan


def plan_to_draw(files: ConfinedFiles) -> ModelPlan:
    """The plan of a model that draws from text on its own.

    Raises: As `plan_model`; MODEL_INCOMPATIBLE for a refiner.
    """
    plan = plan_model(files)
    if plan.type is not ModelType.CHECKPOINT:
        raise FailedPrecondition(
            f"The model is a {plan.type.value}; it cannot draw from text on its own.",
            reason=Reason.MODEL_INCOMPATIBLE,
        )
    return plan


def fingerprint(files: ConfinedFiles) -> Fingerprint:
    """The state of every file that a model may be made of.

    Two equal fingerprints mean that nothing was changed on disk in between. The folder whose
    configuration a single file names is not looked at.

    Raises: As `ConfinedFiles.names`.
    """
    if not files.has_folder():
        return files.states([""])
    parts = {name for family in FAMILIES for name in (*family.networks, *family.tokenizers)}
    return files.fingerprint(["", *sorted(parts | {"scheduler"})])
