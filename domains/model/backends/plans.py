"""The plan of a model, whatever it lies on disk as."""

from __future__ import annotations

from collections.abc import Mapping

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.checkpoint import inspect_checkpoint
from domains.model.backends.companion import beside, companion_of
from domains.model.backends.component import CONFIG_FILE, plan_component
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.backends.diffusers_folder import INDEX_FILE, inspect_folder
from domains.model.backends.families.registry import FAMILIES
from domains.model.backends.file_recognition import config_names
from domains.model.backends.model_plan import ModelPlan, NetworkPlan
from domains.model.backends.remembered import Remembered
from domains.model.backends.safetensors_header import read_header
from domains.model.types import ModelType

_TYPES = {
    "vae": ModelType.VAE,
    "controlnet": ModelType.CONTROL_NET,
    "text_encoder": ModelType.TEXT_ENCODER,
    "image_encoder": ModelType.IMAGE_ENCODER,
    "image_prompt": ModelType.IMAGE_PROMPT_ADAPTER,
}


def plan_model(files: ConfinedFiles) -> ModelPlan:
    """Check everything of a model that can be checked without its weights' numbers.

    Args:
        files: A folder in the diffusers layout, or a checkpoint in one file.

    Raises: As `inspect_folder` and `inspect_checkpoint`; MODEL_INCOMPATIBLE for a refiner that
        is used with the networks of a checkpoint.
    """
    plan = _inspected(files)
    if plan.borrowed and plan.type is ModelType.REFINER:
        raise FailedPrecondition(
            f"The refiner has no {' and no '.join(plan.borrowed)} of its own: it takes those "
            "of the checkpoint whose pictures it refines.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"component": plan.borrowed[0]},
        )
    return plan


def _inspected(files: ConfinedFiles) -> ModelPlan:
    return inspect_checkpoint(files) if files.has_file("") else inspect_folder(files)


def plan_whole(files: ConfinedFiles, type: ModelType) -> ModelPlan:
    """The plan of a checkpoint, or of a refiner where that is wanted: also of one that takes
    networks of a checkpoint, which it lacks.

    Raises: As `inspect_folder` and `inspect_checkpoint`; MODEL_INCOMPATIBLE for the other of
        the two.
    """
    plan = _inspected(files)
    if plan.type is not type:
        raise _other(plan.type, type)
    return plan


def plan_lone(files: ConfinedFiles, type: ModelType) -> NetworkPlan:
    """The plan of a model that is one network, of the type that is wanted.

    Raises: As `plan_component`; MODEL_INCOMPATIBLE for one of another type.
    """
    plan = plan_component(files)
    if _TYPES[plan.name] is not type:
        raise _other(_TYPES[plan.name], type)
    return plan


def networks_of(files: ConfinedFiles) -> tuple[NetworkPlan, ...]:
    """The networks of a folder, whether it is a whole model or one network.

    Raises: As `inspect_folder` and `plan_component`.
    """
    if files.has_file(INDEX_FILE):
        return inspect_folder(files).networks
    return (plan_component(files),)


def _other(found: ModelType, wanted: ModelType) -> FailedPrecondition:
    return FailedPrecondition(
        f"The model's files are those of a {found.value}, and a {wanted.value} is needed here.",
        reason=Reason.MODEL_INCOMPATIBLE,
        metadata={"type": found.value},
    )


def fingerprint(files: ConfinedFiles) -> Fingerprint:
    """The state of every file that a model may be made of, and of those that a single file
    leaves things to.

    Two equal fingerprints mean that nothing was changed on disk in between.

    Raises: As `ConfinedFiles.names`.
    """
    if files.has_folder():
        return _of_folder(files)
    own = files.states([""])
    said = beside(files).states(config_names(files))
    return (*own, *said, *companion_state(files, _metadata(files, own)))


def companion_state(files: ConfinedFiles, metadata: Mapping[str, str]) -> Fingerprint:
    """The state of the folder whose configuration a file names, or else of the configuration
    beside it, which a network of its own takes; empty for one that the file holds itself.

    Args:
        files: The model that is one file.
        metadata: From its header.

    Raises:
        PathOutsideRoot: A part of it is a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    try:
        given = companion_of(files, metadata)
        if given is None:
            return beside(files).states([CONFIG_FILE])
        # What it holds itself is part of its own state.
        return _of_folder(given) if isinstance(given, ConfinedFiles) else ()
    except FailedPrecondition:
        return ()


def _of_folder(files: ConfinedFiles) -> Fingerprint:
    parts = {name for family in FAMILIES for name in (*family.networks, *family.tokenizers)}
    return files.fingerprint(["", *sorted(parts | {"scheduler"})])


# Every generation asks for a fingerprint, and a header takes many times as long to read.
_METADATA: Remembered[dict[str, str]] = Remembered(64)


def _metadata(files: ConfinedFiles, own: Fingerprint) -> dict[str, str]:
    """What a file says of itself; nothing where its header is damaged."""
    key = repr((files.place, own)).encode()
    known = _METADATA.get(key)
    if known is None:
        try:
            known = read_header(files).metadata
        except FailedPrecondition:
            known = {}
        _METADATA.keep(key, known)
    return known
