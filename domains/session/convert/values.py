"""Options, failures, pictures and sessions between proto and domain values."""

from __future__ import annotations

from google.rpc import error_details_pb2

from deviceops.v1 import common_pb2, device_info_pb2, errors_pb2, finishing_pb2, session_pb2
from domains.conversions import (
    MODEL_PARTS,
    REASONS,
    TOGGLES,
    EnumMap,
    byte_figure,
    duration,
    given,
    scalars_from,
    seconds,
    timestamp,
    wished,
)
from domains.errors import Failure, FeatureNotBuilt, FieldViolation
from domains.safety import SafetyAction, SafetySubject, SafetyVerdict
from domains.session import types
from domains.session.types.runs import run_of
from domains.session.views import SessionSnapshot
from domains.values import (
    Degradation,
    DegradationKind,
    ImageFileFormat,
    PlacementDecision,
    PlacementReason,
    SourceMetadata,
)

KINDS = EnumMap(types.SessionKind, session_pb2.SessionKind, "SESSION_KIND_")
PLACEMENT_REASONS = EnumMap(
    PlacementReason, device_info_pb2.PlacementReason, "PLACEMENT_REASON_"
)
STATES = EnumMap(types.SessionState, session_pb2.SessionState, "SESSION_STATE_")
PHASES = EnumMap(types.Phase, session_pb2.Phase, "PHASE_")
PRIORITIES = EnumMap(types.Priority, session_pb2.Priority, "PRIORITY_")
ON_DISCONNECT = EnumMap(types.OnDisconnect, session_pb2.OnDisconnect, "ON_DISCONNECT_")
FORMATS = EnumMap(ImageFileFormat, common_pb2.ImageFileFormat, "IMAGE_FILE_FORMAT_")
SOURCE_METADATA = EnumMap(SourceMetadata, common_pb2.SourceMetadata, "SOURCE_METADATA_")
EVENT_KINDS = EnumMap(types.EventKind, session_pb2.SessionEventKind, "SESSION_EVENT_KIND_")
SAFETY_ACTIONS = EnumMap(SafetyAction, finishing_pb2.SafetyAction, "SAFETY_ACTION_")
SAFETY_SUBJECTS = EnumMap(SafetySubject, finishing_pb2.SafetySubject, "SAFETY_SUBJECT_")
DEGRADATIONS = EnumMap(DegradationKind, common_pb2.DegradationKind, "DEGRADATION_KIND_")


def options_from_proto(message: session_pb2.WorkOptions) -> types.WorkOptions:
    """Session options as a client sent them, unchecked."""
    default = types.WorkOptions()
    return types.WorkOptions(
        request_id=message.request_id,
        priority=PRIORITIES.from_proto(message.priority, default.priority),
        queue_timeout_seconds=wished(message, "queue_timeout", seconds),
        run_timeout_seconds=given(message, "run_timeout"),
        on_disconnect=ON_DISCONNECT.from_proto(message.on_disconnect, default.on_disconnect),
        tags=tuple(message.tags),
        metadata=dict(message.metadata),
        retention_seconds=wished(message, "retention", seconds),
    )


def delivery_from_proto(message: session_pb2.DeliveryOptions, path: str) -> types.Delivery:
    """How events shall come to a stream, unchecked; `path` is where that stands.

    Raises:
        FeatureNotBuilt: Previews in another format than JPEG.
    """
    previews = message.previews
    if FORMATS.from_proto(previews.format, ImageFileFormat.JPEG) is not ImageFileFormat.JPEG:
        raise FeatureNotBuilt((f"{path}.previews.format",))
    return types.Delivery(
        image_data=not message.omit_image_data,
        previews=types.PreviewSettings(**scalars_from(previews, types.PreviewSettings)),
        kinds=tuple(
            kind
            for position, number in enumerate(message.event_kinds)
            if (
                kind := EVENT_KINDS.optional_from_proto(
                    number, field=f"{path}.event_kinds[{position}]"
                )
            )
        ),
        step_interval_seconds=seconds(message.step_interval),
    )


def options_to_proto(options: types.WorkOptions) -> session_pb2.WorkOptions:
    """Session options with every default filled in."""
    return session_pb2.WorkOptions(
        request_id=options.request_id,
        priority=PRIORITIES.to_proto(options.priority),
        queue_timeout=duration(options.queue_timeout_seconds),
        run_timeout=duration(options.run_timeout_seconds),
        on_disconnect=ON_DISCONNECT.to_proto(options.on_disconnect),
        tags=options.tags,
        metadata=options.metadata,
        retention=duration(options.retention_seconds),
    )


def violation_to_proto(
    violation: FieldViolation,
) -> error_details_pb2.BadRequest.FieldViolation:
    """A broken rule."""
    return error_details_pb2.BadRequest.FieldViolation(
        field=violation.field, reason=violation.reason, description=violation.description
    )


def failure_to_proto(failure: Failure) -> errors_pb2.Failure:
    """Why something failed."""
    return errors_pb2.Failure(
        status_code=failure.code,
        reason=REASONS.to_proto(failure.reason),
        message=failure.message,
        metadata=failure.metadata,
        violations=[violation_to_proto(violation) for violation in failure.violations],
        retry_delay=duration(failure.retry_after),
        incident_id=failure.incident_id,
    )


def degradation_to_proto(degradation: Degradation) -> common_pb2.Degradation:
    """What was done otherwise than asked."""
    return common_pb2.Degradation(
        kind=DEGRADATIONS.to_proto(degradation.kind),
        detail=degradation.detail,
        part=MODEL_PARTS.to_proto(degradation.part),
    )


def decision_to_proto(
    decision: PlacementDecision | None,
) -> device_info_pb2.PlacementDecision | None:
    """Where work runs, and why there; None while that is not decided, and for work that is on
    no device."""
    if decision is None or not decision.device_id:
        return None
    return device_info_pb2.PlacementDecision(
        device_id=decision.device_id,
        reason=PLACEMENT_REASONS.to_proto(decision.reason),
        expected_duration=duration(decision.expected_seconds),
        candidate_device_ids=decision.candidate_device_ids,
    )


def image_to_proto(image: types.ImageResult) -> session_pb2.ImageResult:
    """A finished picture."""
    return session_pb2.ImageResult(
        image_index=image.image_index,
        item_id=run_of(image.item_id)[0],
        seed=image.seed,
        artifact_id=image.artifact_id,
        format=FORMATS.to_proto(image.format),
        width=image.width,
        height=image.height,
        size_bytes=image.size_bytes,
        safety=None if image.safety is None else verdict_to_proto(image.safety),
        provenance=common_pb2.Provenance(
            manifest=TOGGLES.to_proto(image.provenance.wish.manifest),
            watermark=TOGGLES.to_proto(image.provenance.wish.watermark),
        ),
    )


def verdict_to_proto(verdict: SafetyVerdict) -> finishing_pb2.SafetyVerdict:
    """What a safety policy made of a picture or prompt."""
    return finishing_pb2.SafetyVerdict(
        scores=[
            finishing_pb2.SafetyScore(
                category=each.category,
                score=each.score,
                threshold=each.threshold,
                flagged=each.flagged,
                postprocessor_id=each.classifier,
            )
            for each in verdict.scores
        ],
        action=SAFETY_ACTIONS.to_proto(verdict.action),
        policy_id=verdict.policy_id,
        policy_version=verdict.policy_version,
        subject=SAFETY_SUBJECTS.to_proto(verdict.subject),
        classifier_failed=verdict.classifier_failed,
        advice=verdict.advice,
    )


def snapshot_to_proto(session: SessionSnapshot, *, full: bool = False) -> session_pb2.Session:
    """A session as a list shows it; `full` with its pictures and metadata."""
    result = session_pb2.Session(
        session_id=session.session_id,
        kind=KINDS.to_proto(session.kind),
        state=STATES.to_proto(session.state),
        phase=PHASES.to_proto(session.phase),
        placement=decision_to_proto(session.placement),
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
        image_count=len(session.images),
        parent_session_id=session.parent_session_id,
        owner=session.owner,
        estimated_start_time=timestamp(session.estimated_start_time),
        estimated_end_time=timestamp(session.estimated_end_time),
        retry_count=session.retry_count,
        method=session.method,
    )
    if session.peak_memory is not None:
        result.peak_memory.CopyFrom(byte_figure(session.peak_memory))
    if full:
        result.images.extend(map(image_to_proto, session.images))
    else:
        result.options.ClearField("metadata")
    return result
