"""Postprocessing between proto and domain values."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import Message

from deviceops.v1 import common_pb2, generation_pb2, postprocessing_pb2
from domains.chain.convert import chain_from_proto
from domains.conversions import EnumMap, digest, limit_to_proto, scalars_from
from domains.device.convert import placement_from_proto
from domains.picture.convert import image_from_proto
from domains.postprocessing.core.processing import AskedPicture, ProcessingRequest
from domains.postprocessing.types import Postprocessor, PostprocessorKind
from domains.session.convert import FORMATS, options_from_proto
from domains.values import ImageFileFormat, OutputSettings

KINDS = EnumMap(PostprocessorKind, postprocessing_pb2.PostprocessorKind, "POSTPROCESSOR_KIND_")
_OUTPUT = ("provenance", "retention")
_PRECISION = ("data_types", "attention_slicing", "vae_tiling", "vae_slicing", "cpu_offload")
"""What of each message nothing is done with; the mode is, where it says EXACT."""


def postprocessor_to_proto(entry: Postprocessor) -> postprocessing_pb2.Postprocessor:
    """What can be applied."""
    return postprocessing_pb2.Postprocessor(
        postprocessor_id=entry.postprocessor_id,
        kind=KINDS.to_proto(entry.kind),
        description=entry.description,
        ready=entry.ready,
        explanation=entry.explanation,
        model_id=entry.model_id,
        factors=entry.factors,
        limits=map(limit_to_proto, entry.limits),
        architecture=entry.architecture,
    )


def image_request_from_proto(
    message: postprocessing_pb2.ProcessImageRequest,
) -> ProcessingRequest:
    """One call of ProcessImage, unchecked.

    Raises:
        InvalidArgument: A step has no value here; see `chain_from_proto`.
    """
    return _request(message, (AskedPicture(image_from_proto(message.image)),), batch=False)


def images_request_from_proto(
    message: postprocessing_pb2.ProcessImagesRequest,
) -> ProcessingRequest:
    """One call of ProcessImages, likewise."""
    pictures = tuple(
        AskedPicture(image_from_proto(item.image), item.item_id) for item in message.items
    )
    return _request(message, pictures, batch=True)


def output_from_proto(message: common_pb2.OutputSettings) -> OutputSettings:
    """How results are encoded, unchecked."""
    return OutputSettings(
        **scalars_from(message, OutputSettings),
        format=FORMATS.from_proto(message.format, ImageFileFormat.PNG, field="output.format"),
    )


def _request(
    message: postprocessing_pb2.ProcessImageRequest | postprocessing_pb2.ProcessImagesRequest,
    pictures: tuple[AskedPicture, ...],
    *,
    batch: bool,
) -> ProcessingRequest:
    return ProcessingRequest(
        pictures=pictures,
        chain=chain_from_proto(message.steps, "steps"),
        output=output_from_proto(message.output),
        options=options_from_proto(message.options),
        placement=placement_from_proto(message.placement),
        digest=digest(message),
        batch=batch,
        exact=message.precision.mode == generation_pb2.PRECISION_MODE_EXACT,
        unbuilt=(
            *_set(message.output, _OUTPUT, "output"),
            *_set(message.precision, _PRECISION, "precision"),
        ),
    )


def _set(message: Message, names: tuple[str, ...], path: str) -> Iterator[str]:
    """Which of these fields a message sets."""
    found = {field.name for field, _ in message.ListFields()}
    return (f"{path}.{name}" for name in names if name in found)
