"""Provenance between proto and values."""

from __future__ import annotations

from deviceops.v1 import common_pb2, inference_pb2
from domains.conversions import TOGGLES, EnumMap, timestamp
from domains.provenance.core import Verified
from domains.provenance.types import FOUND, SignatureState
from domains.values import PictureMarks, ProvenanceWish, Toggle

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
