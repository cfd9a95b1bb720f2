"""A model that is one file, described by its header; pickles are not even opened."""

from __future__ import annotations

from collections.abc import Mapping

from domains.errors import DomainError, FailedPrecondition, Reason
from domains.model.backends import spoken_metadata
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.confinement import Root
from domains.model.backends.file_recognition import recognise_file
from domains.model.backends.header_facts import TensorFacts, tensor_facts
from domains.model.backends.held_files import HELD_FILES
from domains.model.backends.model_card import fit_to_show, tags
from domains.model.backends.original_config import (
    MAX_CONFIG_BYTES,
    OriginalConfig,
    read_original_config,
)
from domains.model.backends.planned import planned
from domains.model.backends.roots import FORMATS, Found
from domains.model.backends.safetensors_header import read_header
from domains.model.backends.usability import usability
from domains.model.types import Model, ModelFormat, ModelType, Problem

_MAX_ENTRIES = 128
_MAX_KEY = 128
_MAX_VALUE = 512


def read_safetensors(found: Found, root: Root) -> Model:
    """Describe a .safetensors file from its header, and the .yaml beside it if there is one.
    The model has no id yet.

    Raises:
        PathOutsideRoot: It has become a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    files = ConfinedFiles(found.place, root)
    try:
        header = read_header(files)
    except FailedPrecondition as error:
        return unusable(found, problem_of(error))
    metadata = header.metadata
    beside = _beside(found, root)
    recognised = recognise_file(header, beside)
    usable = usability(recognised)
    remarks = usable.remarks
    if beside.prediction is not None and recognised.type in _DRAWING:
        remarks += ("What it predicts is told by the .yaml beside it.",)
    width, height = spoken_metadata.resolution(metadata)
    size = recognised.native_size
    facts = tensor_facts(header)
    ranks = facts.ranks if recognised.type is ModelType.LORA else {}
    if len(ranks) > 1:
        remarks += (f"Its layers have ranks from {min(ranks)} to {max(ranks)}.",)
    model = Model(
        model_id="",
        name=fit_to_show(metadata.get("modelspec.title", ""), 128) or shown_name(found),
        type=recognised.type,
        architecture=recognised.architecture,
        format=ModelFormat.SAFETENSORS,
        place=found.place,
        size_bytes=found.size_bytes,
        modified_at=found.modified_at,
        prediction_type=recognised.prediction,
        native_width=width or size,
        native_height=height or size,
        data_type=facts.data_type,
        parameter_count=facts.parameter_count,
        zero_terminal_snr=recognised.zero_terminal_snr,
        inpainting=recognised.inpainting,
        distilled_steps=recognised.distilled_steps,
        lora_rank=max(ranks, key=lambda rank: ranks[rank], default=0),
        lora_alpha=_alpha(metadata, facts) if ranks else 0.0,
        kind=recognised.kind,
        remarks=remarks,
        tags=tags(metadata.get("modelspec.tags", "").split(",")),
        trigger_words=recognised.trigger_words or spoken_metadata.trigger_words(metadata),
        description=fit_to_show(metadata.get("modelspec.description", ""), 1024),
        license=fit_to_show(metadata.get("modelspec.license", ""), 64),
        problem=usable.problem,
        metadata=_shown(metadata),
    )
    return planned(model, recognised, files) if usable.problem is None else model


_DRAWING = (ModelType.CHECKPOINT, ModelType.REFINER)


def _beside(found: Found, root: Root) -> OriginalConfig:
    """The configuration beside a file; one that cannot be read says nothing."""
    if found.beside is None:
        return OriginalConfig()
    try:
        content = ConfinedFiles(found.beside.place, root).read("", MAX_CONFIG_BYTES)
        return read_original_config(content)
    except FailedPrecondition:
        return OriginalConfig()


def _alpha(metadata: Mapping[str, str], facts: TensorFacts) -> float:
    """A LoRA's alpha; its rank where no layer has one (kohya-ss, diffusers). Numbers of tensors
    are not read for it: without a word of the trainer it is not known."""
    if facts.scaled:
        return spoken_metadata.alpha(metadata)
    return float(next(iter(facts.ranks))) if len(facts.ranks) == 1 else 0.0


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


def describe_other(found: Found) -> Model:
    """List a file of a format that is known and not opened."""
    kind = FORMATS[found.ending].value.upper()
    return unusable(
        found,
        Problem(
            Reason.MODEL_FORMAT_UNSUPPORTED,
            f"{kind} files are not opened here; use the model's safetensors file.",
        ),
    )


def problem_of(error: DomainError) -> Problem:
    """An error of a check as the model's problem."""
    return Problem(error.reason, error.message, error.metadata)


def shown_name(found: Found) -> str:
    """The name on disk, or of the repository that it is of, fit to be shown."""
    snapshot = found.snapshot
    if snapshot is not None and snapshot.repository == found.name:
        return fit_to_show(snapshot.title, 128)
    return fit_to_show(found.name, 128)


def unusable(found: Found, problem: Problem) -> Model:
    """A model of which nothing is known but its files and why it cannot be used."""
    return Model(
        model_id="",
        name=shown_name(found),
        type=None,
        architecture=None,
        format=FORMATS.get(found.ending, ModelFormat.PICKLE),
        place=found.place,
        size_bytes=found.size_bytes,
        modified_at=found.modified_at,
        problem=problem,
    )


def _shown(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata of bounded size, without whole files: training tools write logs into it."""
    keys = sorted(metadata.keys() - {HELD_FILES})[:_MAX_ENTRIES]
    return {fit_to_show(key, _MAX_KEY): fit_to_show(metadata[key], _MAX_VALUE) for key in keys}
