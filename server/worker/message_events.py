"""Events of a run over the worker link."""

from __future__ import annotations

from deviceops.v1 import session_pb2
from deviceops.worker.v1 import worker_pb2
from domains.inference.types import ProgressEvent
from domains.session import types
from server.worker.frames import ProtocolError, SpooledFile
from server.worker.message_checks import known, printable, sha256, spool_name, within
from server.worker.message_enums import FORMATS, PHASES

MAX_PREVIEW_BYTES = 256 * 1024
_MOST_IMAGES = 1_000
_MOST_STEPS = 10_000
_LARGEST_EDGE = 32_768
_LARGEST_FILE_BYTES = 256 * 1024 * 1024


def fill_event(message: worker_pb2.Progress, event: ProgressEvent | SpooledFile | None) -> None:
    """Put an event into a progress frame; None leaves it without."""
    match event:
        case types.PhaseStarted(phase, image_index):
            message.phase_started.phase = PHASES.to_proto(phase)
            if image_index is not None:
                message.phase_started.image_index = image_index
        case types.TransferProgress(item, done_bytes, total_bytes):
            message.transfer_progress.item = item
            message.transfer_progress.done_bytes = done_bytes
            message.transfer_progress.total_bytes = total_bytes
        case types.TextEncoded(cached):
            message.text_encoded.cached = cached
            message.text_encoded.SetInParent()
        case types.StepFinished(index, step, steps):
            message.step_finished.image_index = index
            message.step_finished.step = step
            message.step_finished.steps = steps
        case types.Preview(index, step, width, height, jpeg):
            message.preview.image_index = index
            message.preview.step = step
            message.preview.width = width
            message.preview.height = height
            message.preview.jpeg = jpeg
        case types.ImageDecoded(index):
            message.image_decoded.image_index = index
            message.image_decoded.SetInParent()
        case SpooledFile():
            message.image.CopyFrom(_file_to_proto(event))


def event_from_proto(message: worker_pb2.Progress) -> ProgressEvent | SpooledFile | None:
    """The event in a progress frame.

    Raises:
        ProtocolError: It breaks a rule of the link.
    """
    match message.WhichOneof("event"):
        case "phase_started":
            return _phase_from_proto(message.phase_started)
        case "transfer_progress":
            transfer = message.transfer_progress
            done = within(transfer.done_bytes, 0, transfer.total_bytes, "done_bytes")
            item = printable(transfer.item, "item", longest=128)
            return types.TransferProgress(item, done, transfer.total_bytes)
        case "text_encoded":
            return types.TextEncoded(message.text_encoded.cached)
        case "step_finished":
            finished = message.step_finished
            steps = within(finished.steps, 1, _MOST_STEPS, "steps")
            step = within(finished.step, 1, steps, "step")
            return types.StepFinished(_index(finished.image_index), step, steps)
        case "preview":
            return _preview_from_proto(message.preview)
        case "image_decoded":
            return types.ImageDecoded(_index(message.image_decoded.image_index))
        case "image":
            return _file_from_proto(message.image)
        case _:
            return None


def _index(number: int) -> int:
    return within(number, 0, _MOST_IMAGES, "image_index")


def _phase_from_proto(message: session_pb2.PhaseStarted) -> types.PhaseStarted:
    index = _index(message.image_index) if message.HasField("image_index") else None
    return types.PhaseStarted(known(PHASES, message.phase, "phase"), index)


def _preview_from_proto(message: session_pb2.Preview) -> types.Preview:
    if not 0 < len(message.jpeg) <= MAX_PREVIEW_BYTES:
        raise ProtocolError("a preview is empty or too large")
    return types.Preview(
        _index(message.image_index),
        within(message.step, 0, _MOST_STEPS, "step"),
        within(message.width, 1, _LARGEST_EDGE, "width"),
        within(message.height, 1, _LARGEST_EDGE, "height"),
        message.jpeg,
    )


def _file_to_proto(file: SpooledFile) -> worker_pb2.SpooledImage:
    return worker_pb2.SpooledImage(
        name=file.name,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        image_index=file.image_index,
        seed=file.seed,
        width=file.width,
        height=file.height,
        format=FORMATS.to_proto(file.format),
    )


def _file_from_proto(message: worker_pb2.SpooledImage) -> SpooledFile:
    return SpooledFile(
        name=spool_name(message.name),
        sha256=sha256(message.sha256),
        size_bytes=within(message.size_bytes, 1, _LARGEST_FILE_BYTES, "size_bytes"),
        image_index=_index(message.image_index),
        seed=message.seed,
        width=within(message.width, 1, _LARGEST_EDGE, "width"),
        height=within(message.height, 1, _LARGEST_EDGE, "height"),
        format=known(FORMATS, message.format, "format"),
    )
