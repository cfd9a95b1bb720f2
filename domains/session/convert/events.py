"""Events of sessions as messages, one by one and as streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from google.protobuf.message import Message

from deviceops.v1 import common_pb2, event_pb2
from domains.conversions import REASONS, EnumMap, byte_figure, duration, timestamp
from domains.session import types
from domains.session.convert.sharing import SharedResponses
from domains.session.convert.values import (
    KINDS,
    PHASES,
    decision_to_proto,
    degradation_to_proto,
    failure_to_proto,
    image_to_proto,
)
from domains.session.core.log import EventLog
from domains.session.records import KeptMessage
from domains.session.turns import Paused, Resumed, Retried, Yielded, YieldReason
from domains.session.types.runs import run_of

R = TypeVar("R", bound=Message)
_MessageWithReport = event_pb2.SessionCompleted | event_pb2.ItemFinished
# The field of a completed event that holds a report, by the report's type.
_REPORT_FIELDS = {
    field.message_type and field.message_type.full_name: field.name
    for field in (
        event_pb2.SessionCompleted.DESCRIPTOR.fields_by_name["generation"],
        *event_pb2.SessionCompleted.DESCRIPTOR.oneofs_by_name["report"].fields,
    )
}
YIELD_REASONS = EnumMap(YieldReason, event_pb2.YieldReason, "YIELD_REASON_")
Reports = Mapping[type, Callable[[Any], Message]]


class SessionConverter:
    """Turns events into messages.

    Args:
        reports: By type of report, what turns one into its message.
    """

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._shared = SharedResponses(self.event)

    async def responses(
        self, events: AsyncGenerator[types.SessionEvent], response: type[R]
    ) -> AsyncGenerator[R]:
        """Each event as a message of an RPC's stream, in its field `event`. Other streams may
        get the same message: it is not to be changed.
        """
        async with aclosing(events):
            async for event in events:
                yield self._shared.of(event, response)

    def terminal(self, log: EventLog) -> event_pb2.SessionEvent | None:
        """The entry that ended a log, without its pictures, which the session has as well: both
        would outgrow a message. None while it has not ended.
        """
        last = None if log.terminal is None else log.entry(log.last_sequence)
        if last is None:
            return None
        result = self.event(last)
        getattr(result, result.WhichOneof("event") or "completed").ClearField("images")
        return result

    def event(self, item: types.SessionEvent) -> event_pb2.SessionEvent:
        """One event of a session."""
        item_id, run_index = run_of(item.item_id)
        result = event_pb2.SessionEvent(
            session_id=item.session_id,
            sequence=item.sequence,
            event_time=timestamp(item.event_time),
            item_id=item_id,
            run_index=run_index,
        )
        match item.event:
            case types.Accepted() as accepted:
                result.accepted.CopyFrom(_accepted(accepted, item.existing))
            case types.QueueMoved(position, estimated_start_time):
                result.queue_moved.CopyFrom(
                    event_pb2.QueueMoved(
                        queue_position=position,
                        estimated_start_time=timestamp(estimated_start_time),
                    )
                )
            case types.PhaseStarted(phase, image_index, kept_steps):
                result.phase_started.phase = PHASES.to_proto(phase)
                result.phase_started.kept_steps = kept_steps
                if image_index is not None:
                    result.phase_started.image_index = image_index
            case types.TransferProgress(name, done, total):
                result.transfer_progress.item = name
                result.transfer_progress.done_bytes = done
                result.transfer_progress.total_bytes = total
            case types.TextEncoded(cached):
                result.text_encoded.cached = cached
                result.text_encoded.SetInParent()
            case types.StepFinished(image_index, step, steps, seconds):
                result.step_finished.image_index = image_index
                result.step_finished.step = step
                result.step_finished.steps = steps
                if seconds:
                    result.step_finished.duration.FromMicroseconds(round(seconds * 1_000_000))
            case types.PieceFinished(_, piece, done, total):
                result.item_finished.item_id = piece.value
                result.item_finished.done_count = done
                result.item_finished.total_count = total
            case types.Preview() as preview:
                result.preview.CopyFrom(
                    event_pb2.Preview(
                        image_index=preview.image_index,
                        step=preview.step,
                        width=preview.width,
                        height=preview.height,
                        format=common_pb2.IMAGE_FILE_FORMAT_JPEG,
                        data=preview.jpeg,
                    )
                )
            case types.ImageDecoded(image_index):
                result.image_decoded.image_index = image_index
                result.image_decoded.SetInParent()
            case types.ImageChunk(image_index, offset, total_bytes, data):
                result.image_chunk.CopyFrom(
                    event_pb2.ImageChunk(
                        image_index=image_index,
                        offset_bytes=offset,
                        total_bytes=total_bytes,
                        data=data,
                    )
                )
            case types.ImageFinished(image, data_missing):
                result.image_finished.image.CopyFrom(image_to_proto(image))
                if data_missing is not None:
                    result.image_finished.data_missing = REASONS.to_proto(data_missing)
            case types.ItemFinished() as ended:
                result.item_finished.CopyFrom(self._item(ended))
            case types.Heartbeat(heartbeat_phase):
                result.heartbeat.phase = PHASES.to_proto(heartbeat_phase)
                result.heartbeat.SetInParent()
            case types.Completed() as completed:
                result.completed.CopyFrom(self._completed(completed))
            case types.Failed(failure, images):
                result.failed.failure.CopyFrom(failure_to_proto(failure))
                result.failed.images.extend(map(image_to_proto, images))
            case Paused(reason_text, client):
                result.paused.reason_text = reason_text
                result.paused.paused_by = client
                result.paused.SetInParent()
            case Resumed(client):
                result.resumed.resumed_by = client
                result.resumed.SetInParent()
            case Retried(cause, count):
                result.retried.cause.CopyFrom(failure_to_proto(cause))
                result.retried.retry_count = count
            case Yielded(reason, kept_steps, position):
                result.yielded.reason = YIELD_REASONS.to_proto(reason)
                result.yielded.kept_steps = kept_steps
                result.yielded.queue_position = position
            case types.Cancelled() as cancelled:
                result.cancelled.CopyFrom(_cancelled(cancelled))
        return result

    def _item(self, ended: types.ItemFinished) -> event_pb2.ItemFinished:
        result = event_pb2.ItemFinished(
            item_id=run_of(ended.item_id)[0],
            session_id=ended.session_id,
            done_count=ended.done,
            total_count=ended.total,
            failed_count=ended.failed,
            failure=None if ended.failure is None else failure_to_proto(ended.failure),
            images=map(image_to_proto, ended.images),
            degradations=map(degradation_to_proto, ended.degradations),
        )
        self._put_report(result, ended.report)
        return result

    def _completed(self, completed: types.Completed) -> event_pb2.SessionCompleted:
        result = event_pb2.SessionCompleted(
            images=[image_to_proto(image) for image in completed.images],
            image_count=len(completed.images),
            degradations=[
                degradation_to_proto(degradation) for degradation in completed.degradations
            ],
            timings=_timings(completed),
            placement=decision_to_proto(completed.placement),
        )
        if completed.peak_memory is not None:
            result.peak_memory.CopyFrom(byte_figure(completed.peak_memory))
        self._put_report(result, completed.report)
        return result

    def kept(self, report: object) -> KeptMessage:
        """A report as it is kept beyond the server's life."""
        message = self._reports[type(report)](report)
        return KeptMessage(message.DESCRIPTOR.full_name, message.SerializeToString())

    def _put_report(self, result: _MessageWithReport, report: object) -> None:
        if isinstance(report, KeptMessage):
            field = getattr(result, _REPORT_FIELDS[report.message])
            field.ParseFromString(report.body)
            field.SetInParent()
        elif report is not None:
            message = self._reports[type(report)](report)
            getattr(result, _REPORT_FIELDS[message.DESCRIPTOR.full_name]).CopyFrom(message)


def _cancelled(cancelled: types.Cancelled) -> event_pb2.SessionCancelled:
    return event_pb2.SessionCancelled(
        reason=REASONS.to_proto(cancelled.reason),
        reason_text=cancelled.reason_text,
        cancelled_by=cancelled.cancelled_by,
        phase=PHASES.to_proto(cancelled.phase),
        images=map(image_to_proto, cancelled.images),
    )


def _accepted(accepted: types.Accepted, existing: bool) -> event_pb2.SessionAccepted:
    return event_pb2.SessionAccepted(
        kind=KINDS.to_proto(accepted.kind),
        placement=decision_to_proto(accepted.placement),
        queue_position=accepted.queue_position,
        expected_phases=[PHASES.to_proto(phase) for phase in accepted.expected_phases],
        seeds=accepted.seeds,
        steps=accepted.steps,
        queue_deadline=timestamp(accepted.queue_deadline),
        estimated_end_time=timestamp(accepted.estimated_end_time),
        existing=existing,
        degradations=map(degradation_to_proto, accepted.degradations),
    )


def _timings(completed: types.Completed) -> event_pb2.SessionTimings:
    phases, times = types.Phase, completed.timings
    return event_pb2.SessionTimings(
        queue=duration(times.get(phases.QUEUED)),
        load=duration(times.get(phases.LOADING_MODEL)),
        encode_text=duration(times.get(phases.ENCODING_TEXT)),
        prepare_input=duration(times.get(phases.PREPARING_INPUT)),
        denoise=duration(times.get(phases.DENOISING)),
        decode=duration(times.get(phases.DECODING)),
        postprocess=duration(times.get(phases.POSTPROCESSING)),
        encode_image=duration(times.get(phases.ENCODING_IMAGE)),
        pause=duration(completed.pause_seconds or None),
        total=duration(completed.total_seconds),
    )
