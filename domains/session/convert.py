"""Sessions and their events between proto and domain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from deviceops.v1 import common_pb2, session_pb2
from domains.conversions import DATA_TYPES, EnumMap, duration, seconds, timestamp
from domains.errors import Failure, FieldViolation, Reason
from domains.session import types
from domains.session.core.log import EventLog
from domains.values import DegradationKind, ImageFormat

KINDS = EnumMap(types.SessionKind, session_pb2.SessionKind, "SESSION_KIND_")
STATES = EnumMap(types.SessionState, session_pb2.SessionState, "SESSION_STATE_")
PHASES = EnumMap(types.Phase, session_pb2.Phase, "PHASE_")
PRIORITIES = EnumMap(types.Priority, session_pb2.Priority, "PRIORITY_")
ON_DISCONNECT = EnumMap(types.OnDisconnect, session_pb2.OnDisconnect, "ON_DISCONNECT_")
FORMATS = EnumMap(ImageFormat, common_pb2.ImageFormat, "IMAGE_FORMAT_")
REASONS = EnumMap(Reason, common_pb2.ErrorReason, "ERROR_REASON_")
DEGRADATIONS = EnumMap(DegradationKind, common_pb2.DegradationKind, "DEGRADATION_KIND_")


# What turns a report into its message; domains whose sessions end in one add to it.
_REPORTS: dict[type, Callable[[Any], Message]] = {}


def register_report(kind: type, to_proto: Callable[[Any], Message]) -> None:
    """Have reports of type `kind` told in the entry that ends their session."""
    _REPORTS[kind] = to_proto


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


def failure_to_proto(failure: Failure | None) -> session_pb2.Failure | None:
    """Why a session failed."""
    if failure is None:
        return None
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
        first_sequence=1,
        create_time=timestamp(session.create_time),
        start_time=timestamp(session.start_time),
        end_time=timestamp(session.end_time),
        expire_time=timestamp(session.expire_time),
        options=options_to_proto(session.options),
        failure=failure_to_proto(session.failure),
        images=[image_to_proto(image) for image in session.images],
        parent_session_id=session.parent_session_id,
    )


def event_to_proto(item: types.SessionEvent) -> session_pb2.SessionEvent:
    """One event of a session."""
    result = session_pb2.SessionEvent(
        session_id=item.session_id,
        sequence=item.sequence,
        event_time=timestamp(item.event_time),
    )
    match item.event:
        case types.Accepted() as accepted:
            result.accepted.CopyFrom(_accepted(accepted, item.existing))
        case types.QueueMoved(position):
            result.queue_moved.queue_position = position
        case types.PhaseStarted(phase, image_index):
            result.phase_started.phase = PHASES.to_proto(phase)
            if image_index is not None:
                result.phase_started.image_index = image_index
        case types.TransferProgress(name, done, total):
            result.transfer_progress.item = name
            result.transfer_progress.done_bytes = done
            result.transfer_progress.total_bytes = total
        case types.TextEncoded(cached):
            result.text_encoded.cached = cached
            result.text_encoded.SetInParent()
        case types.StepFinished(image_index, step, steps):
            result.step_finished.image_index = image_index
            result.step_finished.step = step
            result.step_finished.steps = steps
        case types.Preview() as preview:
            result.preview.CopyFrom(
                session_pb2.Preview(
                    image_index=preview.image_index,
                    step=preview.step,
                    width=preview.width,
                    height=preview.height,
                    jpeg=preview.jpeg,
                )
            )
        case types.ImageDecoded(image_index):
            result.image_decoded.image_index = image_index
            result.image_decoded.SetInParent()
        case types.ImageChunk(image_index, offset, total_bytes, data):
            result.image_chunk.CopyFrom(
                session_pb2.ImageChunk(
                    image_index=image_index,
                    offset_bytes=offset,
                    total_bytes=total_bytes,
                    data=data,
                )
            )
        case types.ImageFinished(image):
            result.image_finished.image.CopyFrom(image_to_proto(image))
        case types.Heartbeat(heartbeat_phase):
            result.heartbeat.phase = PHASES.to_proto(heartbeat_phase)
            result.heartbeat.SetInParent()
        case types.Completed() as completed:
            result.completed.CopyFrom(_completed(completed))
        case types.Failed(failure, images):
            result.failed.failure.MergeFrom(failure_to_proto(failure) or session_pb2.Failure())
            result.failed.images.extend(map(image_to_proto, images))
        case types.Cancelled(reason, cancelled_phase, images):
            result.cancelled.reason = REASONS.to_proto(reason)
            result.cancelled.phase = PHASES.to_proto(cancelled_phase)
            result.cancelled.images.extend(map(image_to_proto, images))
    return result


def terminal_to_proto(log: EventLog) -> session_pb2.SessionEvent | None:
    """The entry that ended a log; None while it has not ended."""
    if log.terminal is None:
        return None
    return event_to_proto(log.entry(log.last_sequence))


def _accepted(accepted: types.Accepted, existing: bool) -> session_pb2.SessionAccepted:
    return session_pb2.SessionAccepted(
        kind=KINDS.to_proto(accepted.kind),
        device_id=accepted.device_id,
        queue_position=accepted.queue_position,
        expected_phases=[PHASES.to_proto(phase) for phase in accepted.expected_phases],
        seeds=accepted.seeds,
        steps=accepted.steps,
        deadline=timestamp(accepted.deadline),
        existing=existing,
    )


def _completed(completed: types.Completed) -> session_pb2.SessionCompleted:
    phases = types.Phase
    times = completed.timings
    result = session_pb2.SessionCompleted(
        images=[image_to_proto(image) for image in completed.images],
        degradations=[
            common_pb2.Degradation(
                kind=DEGRADATIONS.to_proto(degradation.kind), detail=degradation.detail
            )
            for degradation in completed.degradations
        ],
        timings=session_pb2.SessionTimings(
            queue=duration(times.get(phases.QUEUED)),
            load=duration(times.get(phases.LOADING_MODEL)),
            encode_text=duration(times.get(phases.ENCODING_TEXT)),
            prepare_input=duration(times.get(phases.PREPARING_INPUT)),
            denoise=duration(times.get(phases.DENOISING)),
            decode=duration(times.get(phases.DECODING)),
            postprocess=duration(times.get(phases.POSTPROCESSING)),
            encode_image=duration(times.get(phases.ENCODING_IMAGE)),
            total=duration(completed.total_seconds),
        ),
        device_id=completed.device_id,
    )
    if completed.report is not None:
        result.report.Pack(_REPORTS[type(completed.report)](completed.report))
    facts = completed.generation
    if facts is not None:
        result.generation.CopyFrom(
            session_pb2.GenerationFacts(
                model_id=facts.model_id,
                unet_data_type=DATA_TYPES.to_proto(facts.unet_data_type),
                vae_data_type=DATA_TYPES.to_proto(facts.vae_data_type),
                channels_last=facts.channels_last,
                steps=facts.steps,
                software_versions=facts.software_versions,
            )
        )
    return result
