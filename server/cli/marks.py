"""Marks of pictures: by which others can tell that a model made them."""

from __future__ import annotations

from collections.abc import Sequence

from deviceops.v1 import inference_pb2
from server.cli.output import details
from server.cli.views import message_facts, write_facts, write_message
from server.cli.wording import enum_word, moment

_SIGNATURES = {
    inference_pb2.SIGNATURE_STATE_UNSPECIFIED: "none",
    inference_pb2.SIGNATURE_STATE_TRUSTED: "whole, and its signer is trusted here",
    inference_pb2.SIGNATURE_STATE_UNKNOWN_SIGNER: "whole; its signer is not known here",
    inference_pb2.SIGNATURE_STATE_BROKEN: "broken: picture or manifest changed after signing",
}


Found = Sequence[tuple[str, inference_pb2.VerifyImageResponse]]
"""Pictures as they were named, and what their marks say."""


def show(found: Found) -> None:
    """What the marks say, one fact a line; of several pictures with their names."""
    for name, marks in found:
        details((*((("picture", name),) if len(found) > 1 else ()), *_facts(marks)))


def write(found: Found) -> None:
    """The same as JSON: the answer itself, or a list of them under `pictures`."""
    if len(found) == 1:
        write_message(found[0][1])
    else:
        pictures = [{"picture": name} | message_facts(marks) for name, marks in found]
        write_facts({"pictures": pictures})


def _facts(found: inference_pb2.VerifyImageResponse) -> tuple[tuple[str, str], ...]:
    signature = _SIGNATURES.get(found.signature) or enum_word(
        inference_pb2.SignatureState, found.signature, "SIGNATURE_STATE_"
    )
    sure = f" (sure to {found.watermark_confidence:.0%})" if found.watermark_found else ""
    return (
        ("signature", signature),
        ("signer", found.signer),
        ("signed", moment(found.sign_time)),
        ("made by", found.generator),
        ("invisible mark", f"found{sure}" if found.watermark_found else "not found"),
        ("session", found.session_id),
        ("parameters", found.parameters),
    )
