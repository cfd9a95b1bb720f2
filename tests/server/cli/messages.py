"""Messages of the contract as tests script them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]
from PIL import Image

from deviceops.v1 import device_info_pb2, event_pb2, session_pb2

Context = grpc.ServicerContext
SESSION = "ses-1"


CHOSEN = device_info_pb2.PlacementDecision(
    device_id="cpu:0",
    reason=device_info_pb2.PLACEMENT_REASON_SHORTEST_WAIT,
    candidate_device_ids=["cpu:0", "cuda:0"],
)


def png(color: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """A real picture."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, "PNG")
    return file.getvalue()


def jpeg(width: int = 64, height: int = 64) -> bytes:
    """A real preview: the upper half red, the lower half blue."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (0, height // 2, width, height))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def sha256(data: bytes) -> str:
    """The artifact id of `data`."""
    return hashlib.sha256(data).hexdigest()


def event(sequence: int, **content: Any) -> event_pb2.SessionEvent:
    """One event of the scripted session."""
    return event_pb2.SessionEvent(session_id=SESSION, sequence=sequence, **content)


def accepted(*seeds: int, steps: int = 4) -> event_pb2.SessionEvent:
    """The first entry."""
    return event(
        1,
        accepted=event_pb2.SessionAccepted(
            kind=session_pb2.SESSION_KIND_GENERATION,
            placement=CHOSEN,
            queue_position=2,
            seeds=seeds,
            steps=steps,
        ),
    )


def result(data: bytes, index: int = 0, seed: int = 7, **changes: Any) -> Any:
    """The picture's entry in results; `changes` replace fields."""
    fields: dict[str, Any] = {
        "image_index": index,
        "seed": seed,
        "artifact_id": sha256(data),
        "format": 1,
        "width": 8,
        "height": 8,
        "size_bytes": len(data),
    }
    return session_pb2.ImageResult(**(fields | changes))


def chunks(
    sequence: int, data: bytes, index: int = 0, size: int = 40
) -> Iterator[event_pb2.SessionEvent]:
    """The picture's bytes."""
    for offset in range(0, len(data), size):
        chunk = event_pb2.ImageChunk(
            image_index=index,
            offset_bytes=offset,
            total_bytes=len(data),
            data=data[offset : offset + size],
        )
        yield event(sequence, image_chunk=chunk)


def completed(sequence: int, *images: Any) -> event_pb2.SessionEvent:
    """The last entry of a session that worked."""
    done = event_pb2.SessionCompleted(images=images, placement=CHOSEN)
    done.timings.total.FromMilliseconds(1500)
    done.degradations.add(kind=1, detail="The VAE ran in tiles.")
    return event(sequence, completed=done)


def whole(data: bytes, **changes: Any) -> Iterator[event_pb2.SessionEvent]:
    """A session that draws one picture; `changes` replace fields of its result."""
    image = result(data, **changes)
    yield accepted(image.seed)
    yield event(1, queue_moved=event_pb2.QueueMoved(queue_position=1))
    yield event(2, phase_started=event_pb2.PhaseStarted(phase=session_pb2.PHASE_DENOISING))
    for step in range(1, 5):
        done = event_pb2.StepFinished(image_index=0, step=step, steps=4)
        yield event(2 + step, step_finished=done)
        preview = event_pb2.Preview(step=step, width=64, height=64, data=jpeg())
        yield event(2 + step, preview=preview)
    yield from chunks(6, data)
    yield event(7, image_finished=event_pb2.ImageFinished(image=image))
    yield completed(8, image)


def refuse(
    context: Context,
    code: grpc.StatusCode,
    message: str,
    reason: str,
    *details: Message,
    **facts: str,
) -> Any:
    """End the call as the server's error interceptor does."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="deviceops", metadata=facts)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))


def not_built(context: Context, method: str) -> Any:
    """End the call as the server does where the contract has something and it does not."""
    message = f"{method} is in the contract and not in this version."
    return refuse(context, grpc.StatusCode.UNIMPLEMENTED, message, "NOT_BUILT")


def drop(context: Context) -> None:
    """End the call as a broken connection does: a status without our details."""
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
