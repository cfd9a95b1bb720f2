"""Marks of pictures: by which others can tell that a model made them."""

from __future__ import annotations

from collections.abc import Sequence

from deviceops.v1 import common_pb2, inference_pb2
from server.cli.client import Client
from server.cli.exits import Exit
from server.cli.failures import CallFailed, CallFailure, as_json
from server.cli.output import details
from server.cli.reporting import show as show_failure
from server.cli.several import failure_of
from server.cli.views import message_facts, write_facts
from server.cli.wording import enum_word, moment

_SIGNATURES = {
    inference_pb2.SIGNATURE_STATE_UNSPECIFIED: "none",
    inference_pb2.SIGNATURE_STATE_TRUSTED: "whole, and its signer is trusted here",
    inference_pb2.SIGNATURE_STATE_UNKNOWN_SIGNER: "whole; its signer is not known here",
    inference_pb2.SIGNATURE_STATE_BROKEN: "broken: picture or manifest changed after signing",
}


Found = Sequence[tuple[str, inference_pb2.VerifyImageResponse | CallFailure]]
"""Pictures as they were named, and what their marks say or why they cannot be read."""


def read(client: Client, named: Sequence[tuple[str, common_pb2.InputImage]]) -> Found:
    """Ask for the marks of pictures; of several, one that is refused keeps no other one.

    Raises:
        CallFailed: The only picture was refused, or none can be read now.
    """
    found: list[tuple[str, inference_pb2.VerifyImageResponse | CallFailure]] = []
    for name, image in named:
        request = inference_pb2.VerifyImageRequest(image=image)
        try:
            found.append((name, client.ask(client.inference.VerifyImage, request)))
        except CallFailed as error:
            failure = failure_of(name, error) if len(named) > 1 else None
            if failure is None:
                raise
            found.append((name, failure))
    return found


def show(found: Found) -> Exit:
    """What the marks say, one fact a line; of several pictures with their names. Returns the
    exit code of the first one that could not be read."""
    for name, marks in found:
        if isinstance(marks, CallFailure):
            show_failure(marks, json_wanted=False)
        else:
            details((*((("picture", name),) if len(found) > 1 else ()), *_facts(marks)))
    return _code(found)


def write(found: Found) -> Exit:
    """The same as JSON: the answer itself, or a list of them under `pictures`."""
    told = [
        {"picture": name}
        | (
            {"error": as_json(marks)}
            if isinstance(marks, CallFailure)
            else message_facts(marks)
        )
        for name, marks in found
    ]
    if len(told) == 1:
        told[0].pop("picture")
        write_facts(told[0])
    else:
        write_facts({"pictures": told})
    return _code(found)


def _code(found: Found) -> Exit:
    failed = (marks.exit for _, marks in found if isinstance(marks, CallFailure))
    return next(failed, Exit.OK)


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
