"""Postprocessing between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import postprocessing_pb2
from domains.conversions import EnumMap
from domains.postprocessing.types import Postprocessor, PostprocessorKind

KINDS = EnumMap(PostprocessorKind, postprocessing_pb2.PostprocessorKind, "POSTPROCESSOR_KIND_")


def postprocessor_to_proto(entry: Postprocessor) -> postprocessing_pb2.Postprocessor:
    """What can be applied."""
    return postprocessing_pb2.Postprocessor(
        postprocessor_id=entry.postprocessor_id,
        kind=KINDS.to_proto(entry.kind),
        description=entry.description,
        ready=entry.ready,
        explanation=entry.explanation,
    )
