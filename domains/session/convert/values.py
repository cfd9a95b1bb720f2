"""Options, failures, pictures and sessions between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import common_pb2, session_pb2
from domains.conversions import REASONS, EnumMap, duration, seconds, timestamp
from domains.errors import Failure, FieldViolation
from domains.session import types
from domains.values import DegradationKind, ImageFormat

KINDS = EnumMap(types.SessionKind, session_pb2.SessionKind, "SESSION_KIND_")
STATES = EnumMap(types.SessionState, session_pb2.SessionState, "SESSION_STATE_")
PHASES = EnumMap(types.Phase, session_pb2.Phase, "PHASE_")
PRIORITIES = EnumMap(types.Priority, session_pb2.Priority, "PRIORITY_")
ON_DISCONNECT = EnumMap(types.OnDisconnect, session_pb2.OnDisconnect, "ON_DISCONNECT_")
FORMATS = EnumMap(ImageFormat, common_pb2.ImageFormat, "IMAGE_FORMAT_")
DEGRADATIONS = EnumMap(DegradationKind, common_pb2.DegradationKind, "DEGRADATION_KIND_")


def options_from_proto(message: session_pb2.SessionOptions) -> types.SessionOptions:
    """Session options as a client sent them, unchecked."""
    default = types.SessionOptions()
    return types.SessionOptions(
        request_id=message.request_id,
        priority=PRIORITIES.from_proto(message.priority, default.priority),
        timeout_seconds=seconds(message.timeout)
        if message.HasField("timeout")
        else default.timeout_seconds,
        on_disconnect=ON_DISCONNECT.from_proto(message.on_disconnect, default.on_disconnect),
        tags=tuple(message.tags),
        metadata=dict(message.metadata),
    )


def options_to_proto(options: types.SessionOptions) -> session_pb2.SessionOptions:
    """Session options with every default filled in."""
    return session_pb2.SessionOptions(
        request_id=options.request_id,
        priority=PRIORITIES.to_proto(options.priority),
        timeout=duration(options.timeout_seconds),
        on_disconnect=ON_DISCONNECT.to_proto(options.on_disconnect),
        tags=options.tags,
        metadata=options.metadata,
    )


def violation_to_proto(violation: FieldViolation) -> common_pb2.FieldViolation:
    """A broken rule."""
    return common_pb2.FieldViolation(
        field=violation.field,
        reason=REASONS.to_proto(violation.reason),
        description=violation.description,
    )


def failure_to_proto(failure: Failure) -> session_pb2.Failure:
    """Why something failed."""
    return session_pb2.Failure(
        status_code=failure.code,
        reason=REASONS.to_proto(failure.reason),
        message=failure.message,
        metadata=failure.metadata,
        violations=[violation_to_proto(violation) for violation in failure.violations],
        retry_delay=duration(failure.retry_after),
        incident_id=failure.incident_id,
    )


def image_to_proto(image: types.ImageResult) -> session_pb2.ImageResult:
    """A finished picture."""
    return session_pb2.ImageResult(
        image_index=image.image_index,
        seed=image.seed,
        artifact_id=image.artifact_id,
        format=FORMATS.to_proto(image.format),
        width=image.width,
        height=image.height,
        size_bytes=image.size_bytes,
    )


def snapshot_to_proto(session: types.SessionSnapshot) -> session_pb2.Session:
    """A session as a list shows it."""
    return session_pb2.Session(
        session_id=session.session_id,
        kind=KINDS.to_proto(session.kind),
        state=STATES.to_proto(session.state),
        phase=PHASES.to_proto(session.phase),
        device_id=session.device_id,
        model_id=session.model_id,
        queue_position=session.queue_position,
        progress=session.progress,
        last_sequence=session.last_sequence,
        first_sequence=session.first_sequence,
        create_time=timestamp(session.create_time),
        start_time=timestamp(session.start_time),
        end_time=timestamp(session.end_time),
        expire_time=timestamp(session.expire_time),
        options=options_to_proto(session.options),
        failure=None if session.failure is None else failure_to_proto(session.failure),
        images=[image_to_proto(image) for image in session.images],
        parent_session_id=session.parent_session_id,
    )
