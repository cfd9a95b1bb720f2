"""Values of sessions: accepted work, its state, its numbered events and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import ByteCount, Sha256, Text, Value
from domains.errors import Failure, Reason
from domains.values import DataType, Degradation, ImageFormat, PlacementDecision

MAX_PREVIEW_BYTES = 256 * 1024
ImageIndex = Annotated[int, Meta(ge=0, le=1_000)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
Step = Annotated[int, Meta(ge=0, le=10_000)]
Edge = Annotated[int, Meta(ge=1, le=32_768)]
"""Pixels along one side of a picture."""
FileSize = Annotated[int, Meta(ge=1, le=256 * 1024 * 1024)]


class SessionKind(Enum):
    """What kind of work a session does."""

    GENERATION = "generation"
    GENERATION_BATCH = "generation-batch"
    POSTPROCESSING = "postprocessing"
    MODEL_LOAD = "model-load"
    MODEL_TASK = "model-task"
    BENCHMARK = "benchmark"
    MEMORY_TASK = "memory-task"
    DEVICE_TASK = "device-task"
    WORKFLOW = "workflow"
    BATCH = "batch"


class SessionState(Enum):
    """Where a session stands; COMPLETED, FAILED and CANCELLED are final."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing can happen to the session any more."""
        return self in _FINAL


_FINAL = frozenset({SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED})


class Phase(Enum):
    """Stages of long work; a session's first event lists those to expect, in order."""

    QUEUED = "queued"
    LOADING_MODEL = "loading-model"
    ENCODING_TEXT = "encoding-text"
    PREPARING_INPUT = "preparing-input"
    DENOISING = "denoising"
    REFINING = "refining"
    DECODING = "decoding"
    POSTPROCESSING = "postprocessing"
    CHECKING_SAFETY = "checking-safety"
    ENCODING_IMAGE = "encoding-image"
    READING = "reading"
    VERIFYING = "verifying"
    WRITING = "writing"
    COPYING = "copying"
    RELEASING = "releasing"
    MEASURING = "measuring"
    DRAINING = "draining"
    STARTING_WORKER = "starting-worker"
    RUNNING_STEPS = "running-steps"


class Priority(Enum):
    """Order in a device's queue; the value sorts."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class OnDisconnect(Enum):
    """What becomes of a session when the last stream that runs it is dropped."""

    CANCEL = "cancel"
    DETACH = "detach"


@dataclass(frozen=True)
class SessionOptions:
    """What every request that starts a session may say about it.

    `timeout_seconds` counts from acceptance, queue included.
    """

    request_id: str = ""
    priority: Priority = Priority.NORMAL
    timeout_seconds: float = 300.0
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


class ImageResult(Value, frozen=True):
    """A finished picture: an artifact, its size in pixels and bytes, and its seed."""

    image_index: ImageIndex
    seed: Seed
    artifact_id: Sha256
    format: ImageFormat
    width: Edge
    height: Edge
    size_bytes: FileSize


@dataclass(frozen=True)
class GenerationFacts:
    """What drew the pictures."""

    model_id: str
    unet_data_type: DataType
    vae_data_type: DataType
    channels_last: bool
    steps: int
    software_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a session's work came to, beside its pictures.

    `timings` are seconds by phase; `report` is the typed result of work that makes no
    pictures.
    """

    degradations: tuple[Degradation, ...] = ()
    timings: Mapping[Phase, float] = field(default_factory=dict)
    generation: GenerationFacts | None = None
    report: object = None


# Log entries, in the order in which they may appear.


@dataclass(frozen=True)
class Accepted:
    """First entry: the session exists and will be worked on."""

    kind: SessionKind
    device_id: str
    queue_position: int
    expected_phases: tuple[Phase, ...]
    seeds: tuple[int, ...]
    steps: int
    deadline: datetime
    placement: PlacementDecision | None = None


class PhaseStarted(Value, frozen=True):
    """Work of another kind begins; `image_index` where it is about one picture."""

    phase: Phase
    image_index: ImageIndex | None = None


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

    def __post_init__(self) -> None:
        if not 1 <= self.step <= self.steps:
            raise ValueError("a step is one of the steps")


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
class Completed:
    """Last entry of a session that worked. `timings` are seconds by phase."""

    images: tuple[ImageResult, ...]
    degradations: tuple[Degradation, ...]
    timings: Mapping[Phase, float]
    total_seconds: float
    device_id: str
    generation: GenerationFacts | None = None
    report: object = None  # the typed result of work that makes no pictures
    placement: PlacementDecision | None = None


@dataclass(frozen=True)
class Failed:
    """Last entry of a session that failed."""

    failure: Failure
    images: tuple[ImageResult, ...]


@dataclass(frozen=True)
class Cancelled:
    """Last entry of a session that was stopped, with the phase it was stopped in."""

    reason: Reason
    phase: Phase | None
    images: tuple[ImageResult, ...]


Entry = (
    Accepted
    | PhaseStarted
    | TransferProgress
    | TextEncoded
    | StepFinished
    | ImageDecoded
    | ImageFinished
    | Completed
    | Failed
    | Cancelled
)
Terminal = Completed | Failed | Cancelled


# Passing events: sent, never kept.


@dataclass(frozen=True)
class QueueMoved:
    """The place in the queue changed; 0 is next."""

    queue_position: int


class Preview(Value, frozen=True):
    """The picture as it stands after `step`: a small JPEG, its size in pixels."""

    image_index: ImageIndex
    step: Step
    width: Edge
    height: Edge
    jpeg: Annotated[bytes, Meta(min_length=1, max_length=MAX_PREVIEW_BYTES)]


ProgressEvent = (
    PhaseStarted | TransferProgress | TextEncoded | StepFinished | ImageDecoded | Preview
)
"""What running work reports before its end."""


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
    """One event of a session; passing events repeat the number of the entry before."""

    session_id: str
    sequence: int
    event_time: datetime
    event: Entry | Passing
    existing: bool = False  # of Accepted: the request_id named a session that existed


@dataclass(frozen=True)
class SessionSnapshot:
    """A session as it stands, for lists. `progress` is from 0 to 1."""

    session_id: str
    kind: SessionKind
    state: SessionState
    phase: Phase | None
    device_id: str
    model_id: str
    queue_position: int
    progress: float
    first_sequence: int
    last_sequence: int
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    expire_time: datetime | None
    options: SessionOptions
    failure: Failure | None
    images: tuple[ImageResult, ...]
    parent_session_id: str = ""
    placement: PlacementDecision | None = None
