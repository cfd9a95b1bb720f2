"""A model that is one file, described by its header; pickles are not even opened."""

from __future__ import annotations

import re
from collections.abc import Mapping

from domains.errors import DomainError, FailedPrecondition, Reason
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.families.registry import FAMILIES
from domains.model.backends.header_facts import data_type, lora_rank, parameter_count
from domains.model.backends.model_card import one_line, tags
from domains.model.backends.planned import planned
from domains.model.backends.recognition import recognise
from domains.model.backends.roots import SAFETENSORS, Found
from domains.model.backends.safetensors_header import read_header
from domains.model.types import (
    Architecture,
    Model,
    ModelFormat,
    ModelType,
    PredictionType,
    Problem,
)

_PLANNED = (ModelType.CHECKPOINT, ModelType.REFINER)
_MAX_ENTRIES = 128
_MAX_KEY = 128
_MAX_VALUE = 512
_PREDICTIONS = {
    "epsilon": PredictionType.EPSILON,
    "v": PredictionType.V_PREDICTION,
    "v_prediction": PredictionType.V_PREDICTION,
    "sample": PredictionType.SAMPLE,
}
_RESOLUTION = re.compile(r"(\d{2,5})x(\d{2,5})")


def read_safetensors(found: Found) -> Model:
    """Describe a .safetensors file from its header. The model has no id yet.

    Raises:
        PathOutsideRoot: It has become a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    try:
        header = read_header(ConfinedFiles(found.place))
    except FailedPrecondition as error:
        return unusable(found, problem_of(error))
    recognised = recognise({tensor.name: tensor.shape for tensor in header.tensors})
    metadata = header.metadata
    width, height = _resolution(metadata.get("modelspec.resolution", ""))
    model = Model(
        model_id="",
        name=one_line(metadata.get("modelspec.title", ""), 128) or shown_name(found),
        type=recognised.type,
        architecture=recognised.architecture or _architecture(metadata),
        format=ModelFormat.SAFETENSORS,
        place=found.place,
        size_bytes=found.size_bytes,
        modified_at=found.modified_at,
        prediction_type=_PREDICTIONS.get(metadata.get("modelspec.prediction_type", "")),
        native_width=width,
        native_height=height,
        data_type=data_type([header]),
        parameter_count=parameter_count([header]),
        lora_rank=lora_rank(header) if recognised.type is ModelType.LORA else 0,
        tags=tags(metadata.get("modelspec.tags", "").split(",")),
        trigger_words=tags(metadata.get("modelspec.trigger_phrase", "").split(",")),
        description=one_line(metadata.get("modelspec.description", ""), 1024),
        license=one_line(metadata.get("modelspec.license", ""), 64),
        problem=Problem(Reason.MODEL_FORMAT_UNSUPPORTED, _why_not(recognised.type)),
        metadata=_shown(metadata),
    )
    return planned(model) if recognised.type in _PLANNED else model


def describe_pickle(found: Found) -> Model:
    """List a pickle by what the file system says. Opening it could run what it holds."""
    return unusable(
        found,
        Problem(
            Reason.MODEL_UNSAFE_PICKLE,
            "The file is a pickle, which can run code when it is opened; use the model's "
            "safetensors file.",
        ),
    )


def problem_of(error: DomainError) -> Problem:
    """An error of a check as the model's problem."""
    return Problem(error.reason, error.message, error.metadata)


def shown_name(found: Found) -> str:
    """The name on disk, fit to be shown."""
    return one_line(found.name, 128)


def unusable(found: Found, problem: Problem) -> Model:
    """A model of which nothing is known but its files and why it cannot be used."""
    formats = {"": ModelFormat.DIFFUSERS_FOLDER, SAFETENSORS: ModelFormat.SAFETENSORS}
    return Model(
        model_id="",
        name=shown_name(found),
        type=None,
        architecture=None,
        format=formats.get(found.ending, ModelFormat.PICKLE),
        place=found.place,
        size_bytes=found.size_bytes,
        modified_at=found.modified_at,
        problem=problem,
    )


def _why_not(type: ModelType | None) -> str:
    if type is None:
        return "The file's tensors are of no kind of model that is known here."
    return f"This version does not use models of type {type.value} yet."


def _architecture(metadata: Mapping[str, str]) -> Architecture | None:
    """What the file says of itself, where its tensors leave it open."""
    # What stands after a slash is the kind.
    said = metadata.get("modelspec.architecture", "").partition("/")[0]
    fitting = (family.architecture for family in FAMILIES if said in family.standard_names)
    return next(fitting, None)


def _resolution(text: str) -> tuple[int, int]:
    match = _RESOLUTION.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _shown(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata of bounded size: training tools write whole logs into it."""
    keys = sorted(metadata)[:_MAX_ENTRIES]
    return {one_line(key, _MAX_KEY): one_line(metadata[key], _MAX_VALUE) for key in keys}
