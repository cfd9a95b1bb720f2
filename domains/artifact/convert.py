"""Artifacts between proto and values."""

from __future__ import annotations

from deviceops.v1 import artifact_pb2
from domains.artifact.types import Artifact
from domains.conversions import timestamp


def artifact_to_proto(artifact: Artifact) -> artifact_pb2.Artifact:
    """An artifact without its bytes."""
    return artifact_pb2.Artifact(
        artifact_id=artifact.artifact_id,
        size_bytes=artifact.size_bytes,
        media_type=artifact.media_type,
        create_time=timestamp(artifact.create_time),
        expire_time=timestamp(artifact.expire_time),
        session_id=artifact.session_ids[0] if artifact.session_ids else "",
    )
