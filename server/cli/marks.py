"""Marks of pictures: by which others can tell that a model made them."""

from __future__ import annotations

from deviceops.v1 import inference_pb2
from server.cli.output import details
from server.cli.wording import enum_word, moment

_SIGNATURES = {
    inference_pb2.SIGNATURE_STATE_UNSPECIFIED: "none",
    inference_pb2.SIGNATURE_STATE_TRUSTED: "whole, and its signer is trusted here",
    inference_pb2.SIGNATURE_STATE_UNKNOWN_SIGNER: "whole; its signer is not known here",
    inference_pb2.SIGNATURE_STATE_BROKEN: "broken: picture or manifest changed after signing",
}


def show(found: inference_pb2.VerifyImageResponse) -> None:
    """What the marks say, one fact a line."""
    signature = _SIGNATURES.get(found.signature) or enum_word(
        inference_pb2.SignatureState, found.signature, "SIGNATURE_STATE_"
    )
    sure = f" (sure to {found.watermark_confidence:.0%})" if found.watermark_found else ""
    details(
        (
            ("signature", signature),
            ("signer", found.signer),
            ("signed", moment(found.sign_time)),
            ("made by", found.generator),
            ("invisible mark", f"found{sure}" if found.watermark_found else "not found"),
            ("session", found.session_id),
            ("parameters", found.parameters),
        )
    )
