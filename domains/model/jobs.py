"""What a device's worker, or the inspector, can be asked to do with a model beside drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta

from domains.codec import ByteCount, Count, FieldPath, ModelId, Text, Value, one_line
from domains.device.types import Components
from domains.errors import DomainError, Reason
from domains.model.types import ValidationDepth
from domains.session.jobs import Job, ModelFiles
from domains.values import ModelOrigin, ModelPlace, TensorDataType

MAX_FINDINGS = 100
_LONGEST_NAME = 256
_MOST_LEFT_OUT = 64


class LoadReport(Value, frozen=True):
    """What is on the device now, and where it was before."""

    loaded: Components
    origin: ModelOrigin


class LoadJob(Job[LoadReport], frozen=True):
    """Load a model as a generation that leaves its precision open would."""

    model_id: ModelId
    place: ModelPlace

    @property
    def model(self) -> ModelFiles:
        """What is loaded."""
        return ModelFiles(self.model_id, self.place.path)


class Finding(Value, frozen=True):
    """Something wrong with a model: in which component or file, and in which tensor."""

    reason: Reason
    component: FieldPath
    tensor: FieldPath
    description: Text

    @classmethod
    def of(cls, error: DomainError) -> Self:
        """What an error says of a model's files."""
        about = error.metadata
        place = about.get("component") or about.get("file") or about.get("missing") or ""
        return cls(
            error.reason,
            one_line(place, _LONGEST_NAME),
            one_line(about.get("tensor", ""), _LONGEST_NAME),
            one_line(error.message),
        )


class InspectionReport(Value, frozen=True):
    """What is wrong with a model's files; `sha256` over its weight files, empty unless they
    were read whole."""

    findings: Annotated[tuple[Finding, ...], Meta(max_length=MAX_FINDINGS)]
    findings_omitted: Count
    sha256: Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z")]


class InspectJob(Job[InspectionReport], frozen=True):
    """Check a model's files, in the inspector."""

    model_id: ModelId
    place: ModelPlace
    depth: ValidationDepth


class ConversionReport(Value, frozen=True):
    """What a conversion wrote: bytes in all, tensors that were pruned, and what else the source
    holds and the result does not, in words."""

    size_bytes: ByteCount
    tensors_pruned: Count
    left_out: Annotated[tuple[Text, ...], Meta(max_length=_MOST_LEFT_OUT)]


class ConvertJob(Job[ConversionReport], frozen=True):
    """Write a model as safetensors into an empty folder, in the inspector.

    A model of one file becomes `file_name` in that folder, a folder becomes its content. Without
    a data type every tensor keeps its own; `prune` leaves out what only training needs.
    """

    model_id: ModelId
    place: ModelPlace
    folder: Path
    file_name: FieldPath
    data_type: TensorDataType | None = None
    vae_data_type: TensorDataType | None = None
    prune: bool = False
