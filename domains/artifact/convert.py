"""Artifacts between proto and values."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from deviceops.v1 import artifact_pb2
from domains.artifact.types import Artifact, ArtifactFilter
from domains.conversions import timestamp
from domains.errors import FieldViolation, InvalidArgument, Reason


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
        created_after=(
            _moment("created_after", message.created_after)
            if message.HasField("created_after")
            else None
        ),
    )


def _moment(field: str, message: Timestamp) -> datetime:
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        rule = "Must be a moment of the years 1 to 9999."
        raise InvalidArgument.of(
            FieldViolation(field, Reason.FIELD_OUT_OF_RANGE, rule)
        ) from None
