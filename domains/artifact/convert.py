"""Artifacts between proto and values."""

from __future__ import annotations

from deviceops.v1 import artifact_pb2
from domains.artifact.types import Artifact, ArtifactFilter
from domains.conversions import moment, timestamp


def artifact_to_proto(artifact: Artifact) -> artifact_pb2.Artifact:
    """An artifact without its bytes."""
    return artifact_pb2.Artifact(
        artifact_id=artifact.artifact_id,
        size_bytes=artifact.size_bytes,
        media_type=artifact.media_type,
        create_time=timestamp(artifact.create_time),
        expire_time=timestamp(artifact.expire_time),
        session_id=artifact.session_ids[0] if artifact.session_ids else "",
        owner=artifact.owner,
        pinned=artifact.pinned,
        width=artifact.width,
        height=artifact.height,
        labels=artifact.labels,
    )


def filter_from_proto(message: artifact_pb2.ListArtifactsRequest) -> ArtifactFilter:
    """Which artifacts a client wants listed.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE: a timestamp that is none.
    """
    return ArtifactFilter(
        session_id=message.session_id,
        media_type_prefix=message.media_type_prefix,
        owner=message.owner,
        artifact_ids=tuple(message.artifact_ids),
        created_after=moment(message, "created_after", "created_after"),
        labels=dict(sorted(message.labels.items())),  # as page tokens compare them
    )
