"""What the front and a worker tell each other, as values.

Both ends come from one build; `PROTOCOL_VERSION` says so in the first frame. Jobs and
reports travel as bytes within a frame: the front decodes a report by the job it gave, a
worker a job by the handlers it has.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from domains.codec import (
    ByteCount,
    Malformed,
    Name,
    Seconds,
    Texts,
    Value,
    decode,
    encode,
)
from domains.device.types import DeviceFigures
from domains.errors import Failure
from domains.memory.types import Compare, Move, Segment
from domains.session.types import ImageResult, ProgressEvent
from domains.values import ByteFigure

PROTOCOL_VERSION = 6
LONGEST_TRACEBACK = 64 * 1024

SessionId = Name
Epoch = Annotated[int, Meta(ge=0, le=2**62)]
Ticket = Annotated[int, Meta(ge=1, le=2**62)]


class ProtocolError(Exception):
    """The other end broke the rules of the link; the text says which, without its words."""


# From the front to a worker.


class RunOrder(Value, frozen=True):
    """A job to do within `remaining` seconds; answers carry `session_id` and `epoch`."""

    session_id: SessionId
    epoch: Epoch
    remaining: Seconds
    job: msgspec.Raw


class Cancel(Value, frozen=True):
    """Stop that session; ignored when it is not the one that runs."""

    session_id: SessionId


class Pause(Value, frozen=True):
    """Have that session pause; ignored when it is not the one that runs."""

    session_id: SessionId


class Shutdown(Value, frozen=True):
    """End after what runs."""


class AllocateBuffer(Value, frozen=True):
    """Take `size` bytes of device memory, zeroed, under a new name."""

    buffer_id: Name
    size: ByteCount


class FreeBuffer(Value, frozen=True):
    """Give a buffer back."""

    buffer_id: Name


class Pin(Value, frozen=True):
    """Page-lock shared host memory for the device."""

    segment: Segment


class Unpin(Value, frozen=True):
    """Undo `Pin`; nothing happens when it is not pinned."""

    segment: Segment


class ReleaseCached(Value, frozen=True):
    """Give back what the allocator keeps for reuse."""


Order = AllocateBuffer | FreeBuffer | Move | Compare | Pin | Unpin | ReleaseCached


class MemoryOrder(Value, frozen=True):
    """Something to do with memory beside what runs; answers carry `ticket`."""

    ticket: Ticket
    order: Order


class MemoryCancel(Value, frozen=True):
    """Stop that order; ignored when it is over."""

    ticket: Ticket


ToWorker = RunOrder | Cancel | Pause | Shutdown | MemoryOrder | MemoryCancel


# From a worker to the front.


class Hello(Value, frozen=True):
    """First frame: who it is, and that it can work.

    `memory_waits_for_runs`: memory orders wait until the run next checks for a stop.
    """

    protocol_version: Annotated[int, Meta(ge=0, le=2**31)]
    device_id: Name
    process_id: Annotated[int, Meta(ge=1, le=2**32)]
    software_versions: Texts = msgspec.field(default_factory=dict)
    memory_waits_for_runs: bool = False


class Beat(Value, frozen=True):
    """The process lives, which says nothing about its work.

    Also sent before the last answer to anything, so that figures are never older than it.
    """

    resident_bytes: ByteCount
    figures: DeviceFigures | None = None


class Progress(Value, frozen=True):
    """The work moved on. A picture is announced when its file is in the spool folder.

    Without an event it only checked for a stop.
    """

    session_id: SessionId
    epoch: Epoch
    event: ProgressEvent | ImageResult | None = None


class PartDone(Value, frozen=True):
    """A part of the work has come to its end, by its position; its pictures came before."""

    session_id: SessionId
    epoch: Epoch
    part: Annotated[int, Meta(ge=0, le=2**31)]
    outcome: msgspec.Raw


class Done(Value, frozen=True):
    """The work is done; `peak` is the most memory of the device meanwhile."""

    session_id: SessionId
    epoch: Epoch
    report: msgspec.Raw
    peak: ByteFigure


class Failed(Value, frozen=True):
    """The work failed or was stopped.

    `peak`: the most memory of the device meanwhile; None when it was not begun.
    `sticky`: the device is unusable in this process, which ends after this frame.
    `traceback` is for the log only.
    """

    session_id: SessionId
    epoch: Epoch
    failure: Failure
    peak: ByteFigure | None = None
    sticky: bool = False
    traceback: Annotated[str, Meta(max_length=LONGEST_TRACEBACK)] = ""


class CannotStart(Value, frozen=True):
    """In place of a hello: why the worker cannot work."""

    failure: Failure
    traceback: Annotated[str, Meta(max_length=LONGEST_TRACEBACK)] = ""


class MemoryProgress(Value, frozen=True):
    """A memory order moves on."""

    done: ByteCount


class MemoryDone(Value, frozen=True):
    """A memory order is done, about so many bytes."""

    done: ByteCount = 0


class MemoryAnswer(Value, frozen=True):
    """About a memory order; the one that is no progress is the last."""

    ticket: Ticket
    answer: MemoryProgress | MemoryDone | Failure


FromWorker = Hello | CannotStart | Beat | Progress | PartDone | Done | Failed | MemoryAnswer


def decode_to_worker(data: bytes) -> ToWorker:
    """A frame from the front.

    Raises:
        ProtocolError: It breaks a rule of the link.
    """
    order: ToWorker = decoded(ToWorker, data)
    return order


def decode_from_worker(data: bytes) -> FromWorker:
    """A frame from a worker.

    Raises:
        ProtocolError: It breaks a rule of the link.
    """
    frame: FromWorker = decoded(FromWorker, data)
    return frame


def decoded(kind: Any, data: bytes) -> Any:
    """A value within a frame.

    Raises:
        ProtocolError: It is not a `kind`.
    """
    try:
        return decode(kind, data)
    except Malformed as error:
        raise ProtocolError(str(error)) from error


def raw(value: Value) -> msgspec.Raw:
    """A job, a report or what a part came to, as frames carry it."""
    return msgspec.Raw(encode(value))
