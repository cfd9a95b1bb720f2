"""Values of sessions: accepted work, its state, its numbered events and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from domains.errors import Failure, Reason
from domains.values import Degradation, ImageFormat


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


@dataclass(frozen=True)
class ImageResult:
    """A finished picture: an artifact, its size in pixels and bytes, and its seed."""

    image_index: int
    seed: int
    artifact_id: str
    format: ImageFormat
    width: int
    height: int
    size_bytes: int


@dataclass(frozen=True)
class GenerationFacts:
    """What drew the pictures, in data types by name (`float32`)."""

    model_id: str
    unet_data_type: str
    vae_data_type: str
    channels_last: bool
    steps: int
    software_versions: Mapping[str, str] = field(default_factory=dict)


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


@dataclass(frozen=True)
class PhaseStarted:
    """Work of another kind begins; `image_index` where it is about one picture."""

    phase: Phase
    image_index: int | None = None


@dataclass(frozen=True)
class TransferProgress:
    """Bytes moved, read or checked so far, over the whole of the work."""

    item: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class TextEncoded:
    """Prompts are embeddings now; `cached` when an earlier request's were reused."""

    cached: bool


@dataclass(frozen=True)
class StepFinished:
    """Denoising step `step` (from 1) of `steps` for picture `image_index` (from 0)."""

    image_index: int
    step: int
    steps: int


@dataclass(frozen=True)
class ImageDecoded:
    """Latents are pixels now."""

    image_index: int


@dataclass(frozen=True)
class ImageFinished:
    """A picture is finished and kept as an artifact."""

    image: ImageResult


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


@dataclass(frozen=True)
class Preview:
    """The picture as it stands after `step`: a small JPEG, its size in pixels."""

    image_index: int
    step: int
    width: int
    height: int
    jpeg: bytes


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
    last_sequence: int
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    expire_time: datetime | None
    options: SessionOptions
    failure: Failure | None
    images: tuple[ImageResult, ...]
    parent_session_id: str = ""
