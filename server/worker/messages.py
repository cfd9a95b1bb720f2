"""Frames of the worker link to values and back.

What comes from a worker is checked like what comes from a stranger: unknown numbers,
numbers out of range, names that are paths and texts without end are a ProtocolError.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from deviceops.worker.v1 import worker_pb2
from domains.errors import DomainError
from domains.inference.types import GenerationReport, Timings
from domains.session.types import Degradation
from server.worker import frames
from server.worker.frames import ProtocolError
from server.worker.message_checks import (
    check_name,
    finite,
    known,
    printable,
    texts,
)
from server.worker.message_enums import DATA_TYPES, DEGRADATIONS
from server.worker.message_errors import error_from_proto, error_to_proto
from server.worker.message_events import event_from_proto, fill_event
from server.worker.message_work import work_from_proto, work_to_proto

_LONGEST_TRACEBACK = 64 * 1024
_LONGEST_SESSION_ID = 128
_MOST_DEGRADATIONS = 64


def encode_to_worker(frame: frames.ToWorker) -> bytes:
    """An order as bytes."""
    message = worker_pb2.ToWorker()
    match frame:
        case frames.Run():
            message.run.session_id = frame.session_id
            message.run.epoch = frame.epoch
            message.run.remaining_ms = max(round(frame.remaining * 1000), 0)
            message.run.generation.CopyFrom(work_to_proto(frame.work))
        case frames.Cancel():
            message.cancel.session_id = frame.session_id
        case frames.Shutdown():
            message.shutdown.SetInParent()
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
            if run.WhichOneof("work") != "generation":
                raise ProtocolError("a run without work")
            work = work_from_proto(run.generation)
            return frames.Run(run.session_id, run.epoch, run.remaining_ms / 1000, work)
        case "cancel":
            return frames.Cancel(message.cancel.session_id)
        case "shutdown":
            return frames.Shutdown()
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
        case frames.Beat():
            message.beat.resident_bytes = frame.resident_bytes
        case frames.Progress():
            message.progress.session_id = frame.session_id
            message.progress.epoch = frame.epoch
            fill_event(message.progress, frame.event)
        case frames.Done():
            message.done.CopyFrom(_done_to_proto(frame))
        case frames.Failed():
            message.failed.CopyFrom(error_to_proto(frame.error))
            message.failed.session_id = frame.session_id
            message.failed.epoch = frame.epoch
            message.failed.sticky = frame.sticky
            # The end of a traceback says what happened.
            message.failed.traceback = frame.traceback[-_LONGEST_TRACEBACK:]
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
            )
        case "beat":
            return frames.Beat(message.beat.resident_bytes)
        case "progress":
            progress = message.progress
            return frames.Progress(
                _session_id(progress.session_id), progress.epoch, event_from_proto(progress)
            )
        case "done":
            return _done_from_proto(message.done)
        case "failed":
            failed = message.failed
            error: DomainError = error_from_proto(failed)
            session_id = failed.session_id and _session_id(failed.session_id)
            traceback = failed.traceback[-_LONGEST_TRACEBACK:]
            return frames.Failed(session_id, failed.epoch, error, failed.sticky, traceback)
        case _:
            raise ProtocolError("a frame of no kind")


def _parse(message: worker_pb2.ToWorker | worker_pb2.FromWorker, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError("bytes that are no frame") from error


def _session_id(text: str) -> str:
    return check_name(text, "session_id", longest=_LONGEST_SESSION_ID)


def _done_to_proto(frame: frames.Done) -> worker_pb2.Done:
    report, timings = frame.report, frame.report.timings
    message = worker_pb2.Done(
        session_id=frame.session_id,
        epoch=frame.epoch,
        unet_data_type=DATA_TYPES.to_proto(report.unet_data_type),
        vae_data_type=DATA_TYPES.to_proto(report.vae_data_type),
        channels_last=report.channels_last,
        load_seconds=timings.load,
        encode_text_seconds=timings.encode_text,
        denoise_seconds=timings.denoise,
        decode_seconds=timings.decode,
        encode_image_seconds=timings.encode_image,
    )
    for degradation in report.degradations:
        message.degradations.add(
            kind=DEGRADATIONS.to_proto(degradation.kind), detail=degradation.detail
        )
    return message


def _done_from_proto(message: worker_pb2.Done) -> frames.Done:
    if len(message.degradations) > _MOST_DEGRADATIONS:
        raise ProtocolError("too many degradations")
    report = GenerationReport(
        timings=Timings(
            load=finite(message.load_seconds, "load_seconds"),
            encode_text=finite(message.encode_text_seconds, "encode_text_seconds"),
            denoise=finite(message.denoise_seconds, "denoise_seconds"),
            decode=finite(message.decode_seconds, "decode_seconds"),
            encode_image=finite(message.encode_image_seconds, "encode_image_seconds"),
        ),
        unet_data_type=known(DATA_TYPES, message.unet_data_type, "unet_data_type"),
        vae_data_type=known(DATA_TYPES, message.vae_data_type, "vae_data_type"),
        channels_last=message.channels_last,
        degradations=tuple(
            Degradation(
                known(DEGRADATIONS, degradation.kind, "degradation"),
                printable(degradation.detail, "degradation", longest=1000),
            )
            for degradation in message.degradations
        ),
    )
    return frames.Done(_session_id(message.session_id), message.epoch, report)
