"""Values of sessions: accepted work, its state, its numbered events and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Annotated

from msgspec import Meta, structs

from domains.codec import ByteCount, Count, Seconds, Text, Value
from domains.errors import Failure, Reason
from domains.limits import default_of
from domains.safety import SafetyVerdict
from domains.session.turns import Paused, Resumed, Retried, Yielded
from domains.session.types.delivery import ENTRIES as ENTRIES
from domains.session.types.delivery import Delivery as Delivery
from domains.session.types.delivery import EventKind as EventKind
from domains.session.types.delivery import PreviewSettings as PreviewSettings
from domains.session.types.words import OnDisconnect as OnDisconnect
from domains.session.types.words import Phase as Phase
from domains.session.types.words import Priority as Priority
from domains.session.types.words import SessionKind as SessionKind
from domains.session.types.words import SessionState as SessionState
from domains.values import (
    ByteFigure,
    Degradation,
    ImageFileFormat,
    PictureMarks,
    PlacementDecision,
)

MAX_PREVIEW_BYTES = 256 * 1024
ImageIndex = Annotated[int, Meta(ge=0, le=1_000)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
Step = Annotated[int, Meta(ge=0, le=10_000)]
Edge = Annotated[int, Meta(ge=1, le=32_768)]
"""Pixels along one side of a picture."""
ItemId = Annotated[str, Meta(max_length=160)]
"""The client's name for a part of a session's work, or `run_name` of one."""
FileSize = Annotated[int, Meta(ge=0, le=256 * 1024 * 1024)]
"""0 where there is no file."""
ArtifactId = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{64})?\Z")]
"""A SHA-256 in lower-case hexadecimal; empty where there is no file."""


@dataclass(frozen=True)
class WorkOptions:
    """What every request that starts a session may say about it.

    `queue_timeout_seconds` bounds the wait for the first turn, None for ever;
    `run_timeout_seconds` bounds the work of one attempt. Neither counts pauses.
    `retention_seconds` is how long the session is kept once it is final, None for as long
    as the server keeps sessions that say nothing.
    """

    request_id: str = ""
    priority: Priority = Priority.NORMAL
    queue_timeout_seconds: float | None = None
    run_timeout_seconds: float = default_of("WorkOptions.run_timeout")
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    retention_seconds: float | None = None


class ImageResult(Value, frozen=True):
    """A finished picture, its size in pixels and bytes; `seed` is None if it was not drawn.
    `item_id` is the session's item that it is of; empty where there are none. `safety` is what
    the safety policies said, None where none was asked; one that withheld it leaves it without
    a file."""

    image_index: ImageIndex
    seed: Seed | None
    artifact_id: ArtifactId
    format: ImageFileFormat
    width: Edge
    height: Edge
    size_bytes: FileSize
    item_id: ItemId = ""
    provenance: PictureMarks = PictureMarks()
    safety: SafetyVerdict | None = None

    def __post_init__(self) -> None:
        withheld = not self.artifact_id
        if withheld is not (self.size_bytes == 0) or (withheld and self.safety is None):
            raise ValueError("a picture has a file unless a verdict withholds it")

    @property
    def flagged(self) -> bool:
        """Whether a safety policy found something in it."""
        return self.safety is not None and self.safety.flagged

    @property
    def withheld(self) -> bool:
        """Whether it has no file, because a safety policy said so."""
        return not self.artifact_id


@dataclass(frozen=True)
class Outcome:
    """What a session's work came to, beside its pictures.

    `timings` are seconds by phase; `report` is the work's typed result, or what drew them.
    `teaches` says whether the timings are how long such work takes on the device: not where
    nothing or only a part was done, nor where that was noted already.
    """

    degradations: tuple[Degradation, ...] = ()
    timings: Mapping[Phase, float] = field(default_factory=dict)
    report: object = None
    teaches: bool = True


# Log entries, in the order in which they may appear.


@dataclass(frozen=True)
class Accepted:
    """First entry: the session exists and will be worked on."""

    kind: SessionKind
    queue_position: int
    expected_phases: tuple[Phase, ...]
    seeds: tuple[int, ...]
    steps: int
    queue_deadline: datetime | None = None
    estimated_end_time: datetime | None = None
    placement: PlacementDecision | None = None
    degradations: tuple[Degradation, ...] = ()


class PhaseStarted(Value, frozen=True):
    """Work of another kind begins; `image_index` where about one picture, with `kept_steps`."""

    phase: Phase
    image_index: ImageIndex | None = None
    kept_steps: Count = 0


class TransferProgress(Value, frozen=True):
    """Bytes moved, read or checked so far, over the whole of the work."""

    item: Text
    done_bytes: ByteCount
    total_bytes: ByteCount

    def __post_init__(self) -> None:
        if self.done_bytes > self.total_bytes:
            raise ValueError("more is done than there is")


class TextEncoded(Value, frozen=True):
    """Prompts are embeddings now; `cached` when an earlier request's were reused."""

    cached: bool


class StepFinished(Value, frozen=True):
    """Denoising step `step` (from 1) of `steps` for picture `image_index` (from 0)."""

    image_index: ImageIndex
    step: Step
    steps: Step
    seconds: Seconds = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.step <= self.steps:
            raise ValueError("a step is one of the steps")


class Piece(Enum):
    """What the work on a finished picture is done in; the value is its name in events."""

    TILE = "tile"
    STEP = "step"


class PieceFinished(Value, frozen=True):
    """So many of the tiles of a step, or of the steps of a chain, are done for a picture."""

    image_index: ImageIndex
    piece: Piece
    done: Step
    total: Step

    def __post_init__(self) -> None:
        if not 1 <= self.done <= self.total:
            raise ValueError("a piece is one of the pieces")


class ImageDecoded(Value, frozen=True):
    """Latents are pixels now."""

    image_index: ImageIndex


@dataclass(frozen=True)
class ImageFinished:
    """A picture is finished and kept as an artifact.

    `data_missing` says, on the way to a reader that asked for its bytes, why they are not
    there; None in the log.
    """

    image: ImageResult
    data_missing: Reason | None = None


@dataclass(frozen=True)
class ItemFinished:
    """An item has ended, of which `failure` says why it failed.

    `done`, of which `failed`, is how many have ended of `total`. `report` is what drew its
    pictures, `session_id` the session that did; empty where it is this one.
    """

    item_id: str
    done: int
    failed: int
    total: int
    images: tuple[ImageResult, ...] = ()
    failure: Failure | None = None
    report: object = None
    degradations: tuple[Degradation, ...] = ()
    session_id: str = ""


@dataclass(frozen=True)
class Completed:
    """Last entry of a session that worked.

    `timings` are seconds by phase, waiting included; `report` is as in `Outcome`, and
    `peak_memory` the most memory of its device while it was worked on.
    """

    images: tuple[ImageResult, ...]
    degradations: tuple[Degradation, ...]
    timings: Mapping[Phase, float]
    total_seconds: float
    report: object = None
    pause_seconds: float = 0.0
    peak_memory: ByteFigure | None = None
    placement: PlacementDecision | None = None


@dataclass(frozen=True)
class Failed:
    """Last entry of a session that failed."""

    failure: Failure
    images: tuple[ImageResult, ...]


@dataclass(frozen=True)
class Cancelled:
    """Last entry of a session that was stopped, with the phase it was stopped in.

    `reason_text` is what the client `cancelled_by` gave as its reason; both are empty when
    no client asked.
    """

    reason: Reason
    phase: Phase | None
    images: tuple[ImageResult, ...]
    reason_text: str = ""
    cancelled_by: str = ""


Entry = (
    Accepted
    | PhaseStarted
    | TransferProgress
    | TextEncoded
    | StepFinished
    | PieceFinished
    | ImageDecoded
    | ImageFinished
    | ItemFinished
    | Paused
    | Resumed
    | Yielded
    | Retried
    | Completed
    | Failed
    | Cancelled
)
Terminal = Completed | Failed | Cancelled


# Passing events: sent, never kept.


@dataclass(frozen=True)
class QueueMoved:
    """The place in the queue changed; 0 is next. No start while nothing alike was timed."""

    queue_position: int
    estimated_start_time: datetime | None = None


class Preview(Value, frozen=True):
    """The picture as it stands after `step`: a small JPEG, its size in pixels."""

    image_index: ImageIndex
    step: Step
    width: Edge
    height: Edge
    jpeg: Annotated[bytes, Meta(min_length=1, max_length=MAX_PREVIEW_BYTES)]


ProgressEvent = (
    PhaseStarted
    | TransferProgress
    | TextEncoded
    | StepFinished
    | PieceFinished
    | ImageDecoded
    | Preview
)
"""What running work reports before its end."""


def counted_on(event: ProgressEvent, first: int) -> ProgressEvent:
    """The event where its picture is not counted from 0 but from `first`."""
    index = getattr(event, "image_index", None)
    return event if index is None else structs.replace(event, image_index=index + first)


@dataclass(frozen=True)
class ImageChunk:
    """Part of a finished picture's file."""

    image_index: int
    offset_bytes: int
    total_bytes: int
    data: bytes


@dataclass(frozen=True)
class Heartbeat:
    """Nothing new; the session lives."""

    phase: Phase | None


Passing = QueueMoved | Preview | ImageChunk | Heartbeat


@dataclass(frozen=True)
class SessionEvent:
    """One event of a session; passing events repeat the number of the entry before. `item_id`
    is the item that it is about, empty where it is about the session."""

    session_id: str
    sequence: int
    event_time: datetime
    event: Entry | Passing
    existing: bool = False  # of Accepted: the request_id named a session that existed
    item_id: str = ""
