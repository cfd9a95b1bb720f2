"""Frames of the worker link to values and back.

What comes from a worker is checked like what comes from a stranger: unknown numbers,
numbers out of range, names that are paths and texts without end are a ProtocolError.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from deviceops.worker.v1 import worker_pb2
from domains.errors import DomainError
from server.worker import frames
from server.worker.frames import ProtocolError
from server.worker.message_checks import check_name, printable, texts, within
from server.worker.message_errors import error_from_proto, error_to_proto
from server.worker.message_events import event_from_proto, fill_event
from server.worker.message_figures import MOST_BYTES, figures_from_proto, figures_to_proto
from server.worker.message_memory import (
    answer_from_proto,
    answer_to_proto,
    order_from_proto,
    order_to_proto,
)
from server.worker.message_reports import fill_report, report_from_proto
from server.worker.message_work import fill_work, work_from_proto

_LONGEST_TRACEBACK = 64 * 1024
_LONGEST_SESSION_ID = 128


def encode_to_worker(frame: frames.ToWorker) -> bytes:
    """An order as bytes."""
    message = worker_pb2.ToWorker()
    match frame:
        case frames.Run():
            message.run.session_id = frame.session_id
            message.run.epoch = frame.epoch
            message.run.remaining_ms = max(round(frame.remaining * 1000), 0)
            fill_work(message.run, frame.work)
        case frames.Cancel():
            message.cancel.session_id = frame.session_id
        case frames.Shutdown():
            message.shutdown.SetInParent()
        case frames.MemoryOrder():
            message.memory.CopyFrom(order_to_proto(frame))
        case frames.MemoryCancel():
            message.memory_cancel.ticket = frame.ticket
            message.memory_cancel.SetInParent()
    return message.SerializeToString()


def decode_to_worker(data: bytes) -> frames.ToWorker:
    """An order from the front, which is trusted to know its own version.

    Raises:
        ProtocolError: It is not an order.
    """
    message = worker_pb2.ToWorker()
    _parse(message, data)
    match message.WhichOneof("message"):
        case "run":
            run = message.run
            work = work_from_proto(run)
            return frames.Run(run.session_id, run.epoch, run.remaining_ms / 1000, work)
        case "cancel":
            return frames.Cancel(message.cancel.session_id)
        case "shutdown":
            return frames.Shutdown()
        case "memory":
            return order_from_proto(message.memory)
        case "memory_cancel":
            return frames.MemoryCancel(message.memory_cancel.ticket)
        case _:
            raise ProtocolError("an order of no kind")


def encode_from_worker(frame: frames.FromWorker) -> bytes:
    """A worker's frame as bytes."""
    message = worker_pb2.FromWorker()
    match frame:
        case frames.Hello():
            message.hello.protocol_version = frame.protocol_version
            message.hello.device_id = frame.device_id
            message.hello.process_id = frame.process_id
            message.hello.software_versions.update(frame.software_versions)
            message.hello.memory_waits_for_runs = frame.memory_waits_for_runs
        case frames.Beat():
            message.beat.resident_bytes = frame.resident_bytes
            if frame.figures is not None:
                message.beat.figures.CopyFrom(figures_to_proto(frame.figures))
        case frames.Progress():
            message.progress.session_id = frame.session_id
            message.progress.epoch = frame.epoch
            fill_event(message.progress, frame.event)
        case frames.Done():
            message.done.session_id = frame.session_id
            message.done.epoch = frame.epoch
            fill_report(message.done, frame.report)
        case frames.Failed():
            message.failed.CopyFrom(error_to_proto(frame.error))
            message.failed.session_id = frame.session_id
            message.failed.epoch = frame.epoch
            message.failed.sticky = frame.sticky
            # The end of a traceback says what happened.
            message.failed.traceback = frame.traceback[-_LONGEST_TRACEBACK:]
        case frames.MemoryAnswer():
            message.memory.CopyFrom(answer_to_proto(frame))
    return message.SerializeToString()


def decode_from_worker(data: bytes) -> frames.FromWorker:
    """A worker's frame.

    Raises:
        ProtocolError: It breaks a rule of the link.
    """
    message = worker_pb2.FromWorker()
    _parse(message, data)
    match message.WhichOneof("message"):
        case "hello":
            hello = message.hello
            return frames.Hello(
                hello.protocol_version,
                printable(hello.device_id, "device_id", longest=128),
                hello.process_id,
                texts(hello.software_versions, "software_versions", longest=64),
                hello.memory_waits_for_runs,
            )
        case "beat":
            beat = message.beat
            figures = figures_from_proto(beat.figures) if beat.HasField("figures") else None
            resident = within(beat.resident_bytes, 0, MOST_BYTES, "resident_bytes")
            return frames.Beat(resident, figures)
        case "progress":
            progress = message.progress
            return frames.Progress(
                _session_id(progress.session_id), progress.epoch, event_from_proto(progress)
            )
        case "done":
            done = message.done
            session_id = _session_id(done.session_id)
            return frames.Done(session_id, done.epoch, report_from_proto(done))
        case "failed":
            failed = message.failed
            error: DomainError = error_from_proto(failed)
            session_id = failed.session_id and _session_id(failed.session_id)
            traceback = failed.traceback[-_LONGEST_TRACEBACK:]
            return frames.Failed(session_id, failed.epoch, error, failed.sticky, traceback)
        case "memory":
            return answer_from_proto(message.memory)
        case _:
            raise ProtocolError("a frame of no kind")


def _parse(message: worker_pb2.ToWorker | worker_pb2.FromWorker, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError("bytes that are no frame") from error


def _session_id(text: str) -> str:
    return check_name(text, "session_id", longest=_LONGEST_SESSION_ID)
