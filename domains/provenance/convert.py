"""Provenance, and how the files are made that bear it, between proto and values."""

from __future__ import annotations

from deviceops.v1 import common_pb2, inference_pb2
from domains.conversions import (
    TOGGLES,
    EnumMap,
    duration,
    scalars_from,
    scalars_of,
    seconds,
    timestamp,
    wished,
)
from domains.provenance.core import Verified
from domains.provenance.types import FOUND, SignatureState
from domains.session.convert import FORMATS, SOURCE_METADATA
from domains.values import (
    ImageFileFormat,
    OutputSettings,
    PictureMarks,
    ProvenanceWish,
    SourceMetadata,
    Toggle,
)

STATES = EnumMap(
    SignatureState,
    inference_pb2.SignatureState,
    "SIGNATURE_STATE_",
    zero=SignatureState.NONE,
)


def wish_from_proto(message: common_pb2.Provenance) -> ProvenanceWish:
    """What a request says about marks."""
    return ProvenanceWish(
        TOGGLES.from_proto(message.manifest, Toggle.SERVER),
        TOGGLES.from_proto(message.watermark, Toggle.SERVER),
    )


def wish_to_proto(wish: ProvenanceWish) -> common_pb2.Provenance:
    """As a client would ask for it."""
    return common_pb2.Provenance(
        manifest=TOGGLES.to_proto(wish.manifest), watermark=TOGGLES.to_proto(wish.watermark)
    )


def output_from_proto(message: common_pb2.OutputSettings, path: str) -> OutputSettings:
    """How results are encoded, unchecked; `path` is where that stands in the request.

    Raises:
        InvalidArgument: ENUM_VALUE_UNKNOWN.
    """
    return OutputSettings(
        **scalars_from(message, OutputSettings),
        format=FORMATS.from_proto(message.format, ImageFileFormat.PNG, field=f"{path}.format"),
        provenance=wish_from_proto(message.provenance),
        retention=wished(message, "retention", seconds),
        source_metadata=SOURCE_METADATA.from_proto(
            message.source_metadata, SourceMetadata.DISCARD, field=f"{path}.source_metadata"
        ),
    )


def output_to_proto(output: OutputSettings) -> common_pb2.OutputSettings:
    """As a client would ask for it."""
    return common_pb2.OutputSettings(
        **scalars_of(output, common_pb2.OutputSettings),
        format=FORMATS.to_proto(output.format),
        provenance=wish_to_proto(output.provenance),
        retention=duration(output.retention),
        source_metadata=SOURCE_METADATA.to_proto(output.source_metadata),
    )


def demanded_from_proto(message: common_pb2.Provenance) -> PictureMarks:
    """The marks that a policy demands."""
    wish = wish_from_proto(message)
    return PictureMarks(wish.manifest is Toggle.ON, wish.watermark is Toggle.ON)


def verified_to_proto(found: Verified) -> inference_pb2.VerifyImageResponse:
    """What a picture's marks say."""
    manifest, sure = found.report.manifest, found.report.watermark
    return inference_pb2.VerifyImageResponse(
        signature=STATES.to_proto(manifest.state),
        signer=manifest.signer,
        sign_time=timestamp(manifest.sign_time),
        generator=manifest.generator,
        watermark_found=sure >= FOUND,
        watermark_confidence=sure,
        parameters=found.report.parameters,
        session_id=found.session_id,
    )
