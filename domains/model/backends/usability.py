"""Whether a single file can be used, from what it is: its problem, or what to know of it.

A problem is what no version will get over: another family, quantised weights, a part that is
missing. A file that only waits for a feature is usable and says so in a remark.
"""

from __future__ import annotations

from typing import NamedTuple

from domains.errors import FailedPrecondition, Reason
from domains.model.backends import restorers
from domains.model.backends.families.registry import BY_ARCHITECTURE, FAMILIES
from domains.model.backends.recognition import Recognised
from domains.model.backends.recognition.controls import APPLIED
from domains.model.backends.upscalers import KINDS, of_another_kind
from domains.model.types import ModelType, PredictionType, Problem
from domains.values import listed_types, types_of

_OURS = tuple(family.title for family in FAMILIES if family.drawn)
_DRAWN = f"This version draws with {', '.join(_OURS[:-1])} and {_OURS[-1]}"
_WAITS = {
    ModelType.SAFETY_CLASSIFIER: (
        "Classifiers are listed; scoring pictures waits for safety checks."
    ),
    ModelType.TEXT_ENCODER: (
        "Text encoders are listed, checked and loaded; a checkpoint's own is used, another "
        "cannot be chosen yet."
    ),
    ModelType.CONTROL_PREPROCESSOR: (
        "Preprocessors are listed; they wait for the making of control pictures."
    ),
}
WITHOUT_VAE = "It holds no VAE: requests have to name one by vae_model_id."
TAKES_MASKS = "It fills in the masked part of a picture: use it with inpainting."
# What goes for a ControlNet and is another network.
_OTHER_CONTROLS = ("control-LoRA", "ControlNet-LLLite", "T2I-Adapter")
# Numbers of eight bits are read like others, multiplied by their scale where they have one.
_READ_AS_THEY_ARE = ("", "fp8", "scaled fp8")
_NO_TYPE = Reason.MODEL_FORMAT_UNSUPPORTED


class Usability(NamedTuple):
    """Why a file cannot be used, if so, and what to know before it is."""

    problem: Problem | None
    remarks: tuple[str, ...] = ()


def usability(found: Recognised) -> Usability:
    """Judge a file by what it was recognised as."""
    problem = _problem(found)
    if problem is not None:
        return Usability(problem)
    waiting = waits_for(found.type)
    remarks = [waiting] if waiting else []
    if found.type is ModelType.UPSCALER and found.kind not in KINDS:
        remarks.append(of_another_kind(found.kind).message)
    if found.type is ModelType.FACE_RESTORER and found.kind not in restorers.KINDS:
        remarks.append(restorers.of_another_kind(found.kind).message)
    if found.inpainting:
        remarks.append(TAKES_MASKS)
    if types := types_of(found.kind):
        remarks.append(
            f"Say what it takes each picture for, by control_type: {listed_types(types)}."
        )
    if "VAE" in found.lacks:
        remarks.append(WITHOUT_VAE)
    if found.type is ModelType.CHECKPOINT and found.prediction is None:
        remarks.append(
            "The file does not say whether it predicts noise or velocity; put its .yaml beside "
            "it if pictures come out grey or glaring."
        )
    return Usability(None, tuple(remarks))


def check_usable(found: Recognised) -> None:
    """Refuse what cannot be used, whatever else is right with it.

    Raises:
        FailedPrecondition: Its problem.
    """
    problem = usability(found).problem
    if problem is not None:
        raise FailedPrecondition(
            problem.message, reason=problem.reason, metadata=dict(problem.metadata)
        )


def waits_for(type: ModelType | None) -> str:
    """A sentence on the feature that models of a type wait for; empty for those that draw."""
    return "" if type is None else _WAITS.get(type, "")


def _problem(found: Recognised) -> Problem | None:
    if found.type is None:
        return _of_no_type(found)
    named = _foreign(found)
    if named:
        return Problem(
            _NO_TYPE, f"{_DRAWN}; this is {_called(found.type)} {named}, which it cannot use."
        )
    if found.quantisation not in _READ_AS_THEY_ARE:
        return Problem(
            Reason.MODEL_DTYPE_UNSUPPORTED,
            f"The weights are quantised: {found.quantisation}. Use the model's copy in float16 "
            "or bfloat16.",
        )
    if found.type is ModelType.CONTROL_NET and found.kind in _OTHER_CONTROLS:
        return Problem(
            _NO_TYPE,
            f"This is a {found.kind}; this version uses ControlNets of the usual kind.",
        )
    if found.type is ModelType.IMAGE_PROMPT_ADAPTER and found.kind not in APPLIED:
        return Problem(
            Reason.MODEL_INCOMPATIBLE,
            f"This is an {found.kind}, which needs a face recogniser that this version does "
            f"not have; use one of {', '.join(APPLIED)}.",
        )
    if found.type in (ModelType.CHECKPOINT, ModelType.REFINER):
        return _of_checkpoint(found)
    return None


def _of_no_type(found: Recognised) -> Problem:
    if found.kind:
        whose = f" of {found.family}" if found.family else ""
        said = f"The file is a {found.kind}{whose}, which this version does nothing with."
    else:
        said = "The file's tensors are of no kind of model that is known here."
    return Problem(_NO_TYPE, said)


def _foreign(found: Recognised) -> str:
    """The family that a file is of or for, where it is none that is drawn with."""
    if found.family:
        return found.family
    family = found.architecture and BY_ARCHITECTURE[found.architecture]
    return family.title if family and not family.drawn else ""


def _called(type: ModelType) -> str:
    """With an article, and with what follows before the family's name."""
    if type in (ModelType.CHECKPOINT, ModelType.REFINER):
        return "a model of"
    name = {ModelType.LORA: "LoRA", ModelType.VAE: "VAE", ModelType.CONTROL_NET: "ControlNet"}
    return f"a {name.get(type, type.value.replace('-', ' '))} for"


def _of_checkpoint(found: Recognised) -> Problem | None:
    """Why a checkpoint or refiner cannot be drawn with, if so."""
    if found.formulation:
        return Problem(
            Reason.MODEL_INCOMPATIBLE,
            f"The model adds noise by {found.formulation} ({found.kind}), which this version "
            "does not; drawn as anything else it gives noise.",
        )
    if found.prediction is PredictionType.FLOW:
        return Problem(
            Reason.MODEL_INCOMPATIBLE,
            "The model was trained on flow matching, which this version does not draw with.",
        )
    if "text encoder" in found.lacks:
        return Problem(
            Reason.MODEL_INCOMPLETE,
            f"The file holds a denoiser and no {' and no '.join(reversed(found.lacks))}; use "
            "the whole checkpoint.",
            {"component": "text_encoder"},
        )
    if found.extra_input and not found.inpainting:
        return Problem(
            Reason.MODEL_INCOMPATIBLE,
            f"The model also takes {found.extra_input}; this version draws from text alone.",
        )
    if found.architecture is None:
        return Problem(
            _NO_TYPE, f"{_DRAWN}; of which family this checkpoint is, its tensors do not tell."
        )
    return None
