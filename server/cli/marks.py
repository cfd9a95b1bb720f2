"""Marks of pictures: by which others can tell that a model made them."""

from __future__ import annotations

from pathlib import Path

from deviceops.v1 import common_pb2, inference_pb2
from server.cli.choices import UnusableOptions
from server.cli.output import details
from server.cli.pictures import ARTIFACT_ID
from server.cli.wording import enum_word, moment

_MOST_INLINE_BYTES = 3_145_728  # the contract's, of InputImage.inline
_SIGNATURES = {
    inference_pb2.SIGNATURE_STATE_UNSPECIFIED: "none",
    inference_pb2.SIGNATURE_STATE_TRUSTED: "whole, and its signer is trusted here",
    inference_pb2.SIGNATURE_STATE_UNKNOWN_SIGNER: "whole; its signer is not known here",
    inference_pb2.SIGNATURE_STATE_BROKEN: "broken: picture or manifest changed after signing",
}


def input_image(picture: str) -> common_pb2.InputImage:
    """The picture as a request takes it: a file's bytes, or an artifact by its id.

    Raises:
        UnusableOptions: The file cannot be read, or is too large for a message.
    """
    if ARTIFACT_ID.fullmatch(picture):
        return common_pb2.InputImage(artifact_id=picture)
    try:
        with Path(picture).open("rb") as file:
            data = file.read(_MOST_INLINE_BYTES + 1)
    except OSError as error:
        raise UnusableOptions(f"{picture} cannot be read: {error.strerror or error}") from error
    if len(data) > _MOST_INLINE_BYTES:
        raise UnusableOptions(
            f"{picture} has more than 3 MiB: send it with deviceops upload, and name the"
            " artifact id instead"
        )
    return common_pb2.InputImage(inline=data)


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
