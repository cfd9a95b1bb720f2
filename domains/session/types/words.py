"""Words of sessions: what kind of work they are, where they stand, and how urgent they are."""

from __future__ import annotations

from enum import Enum


class SessionKind(Enum):
    """What kind of work a session does."""

    GENERATION = "generation"
    GENERATION_BATCH = "generation-batch"
    POSTPROCESSING = "postprocessing"
    MODEL_LOAD = "model-load"
    MODEL_UNLOAD = "model-unload"
    MODEL_CACHE = "model-cache"
    MODEL_TASK = "model-task"
    MODEL_IMPORT = "model-import"
    BENCHMARK = "benchmark"
    MEMORY_TASK = "memory-task"
    DEVICE_TASK = "device-task"
    WORKFLOW = "workflow"
    BATCH = "batch"
    SAFETY_CHECK = "safety-check"
    CONTROL_IMAGE = "control-image"


class SessionState(Enum):
    """Where a session stands; COMPLETED, FAILED and CANCELLED are final."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
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
    SECOND_PASS = "second-pass"
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
