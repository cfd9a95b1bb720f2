"""What the front and a worker tell each other, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from domains.device.types import (
    DeviceFigures,
    OptimizationReport,
    OptimizationWork,
    ReleaseReport,
    ReleaseWork,
    SelfTestFacts,
    SelfTestWork,
)
from domains.errors import DomainError
from domains.inference.types import GenerationReport, GenerationWork, ProgressEvent
from domains.memory.types import Compare, Move, Segment
from domains.values import ImageFormat

PROTOCOL_VERSION = 2

Work = GenerationWork | SelfTestWork | OptimizationWork | ReleaseWork
Report = GenerationReport | SelfTestFacts | OptimizationReport | ReleaseReport
REPORTS: Mapping[type[Work], type[Report]] = {
    GenerationWork: GenerationReport,
    SelfTestWork: SelfTestFacts,
    OptimizationWork: OptimizationReport,
    ReleaseWork: ReleaseReport,
}
"""What each kind of work comes to."""


class ProtocolError(Exception):
    """The other end broke the rules of the link; the text says which, without its words."""


# From the front to a worker.


@dataclass(frozen=True)
class Run:
    """Work to do within `remaining` seconds; answers carry `session_id` and `epoch`."""

    session_id: str
    epoch: int
    remaining: float
    work: Work


@dataclass(frozen=True)
class Cancel:
    """Stop that session; ignored when it is not the one that runs."""

    session_id: str


@dataclass(frozen=True)
class Shutdown:
    """End after what runs."""


@dataclass(frozen=True)
class AllocateBuffer:
    """Take `size` bytes of device memory under a new name; all are zero."""

    buffer_id: str
    size: int


@dataclass(frozen=True)
class FreeBuffer:
    """Give a buffer back."""

    buffer_id: str


@dataclass(frozen=True)
class Pin:
    """Page-lock shared host memory for the device."""

    segment: Segment


@dataclass(frozen=True)
class Unpin:
    """Undo `Pin`; nothing happens when it is not pinned."""

    segment: Segment


@dataclass(frozen=True)
class ReleaseCached:
    """Give back what the allocator keeps for reuse."""


Order = AllocateBuffer | FreeBuffer | Move | Compare | Pin | Unpin | ReleaseCached


@dataclass(frozen=True)
class MemoryOrder:
    """Something to do with memory beside what runs; answers carry `ticket`."""

    ticket: int
    order: Order


@dataclass(frozen=True)
class MemoryCancel:
    """Stop that order; ignored when it is over."""

    ticket: int


ToWorker = Run | Cancel | Shutdown | MemoryOrder | MemoryCancel


# From a worker to the front.


@dataclass(frozen=True)
class Hello:
    """First frame: who it is, and that it can work.

    `memory_waits_for_runs`: memory orders wait for the run's next checkpoint.
    """

    protocol_version: int
    device_id: str
    process_id: int
    software_versions: Mapping[str, str] = field(default_factory=dict)
    memory_waits_for_runs: bool = False


@dataclass(frozen=True)
class Beat:
    """The process lives, which says nothing about its work.

    Also sent before the last answer to anything, so that figures are never older than it.
    """

    resident_bytes: int
    figures: DeviceFigures | None = None


@dataclass(frozen=True)
class SpooledFile:
    """A finished picture as announced: a bare file name in the worker's spool folder."""

    name: str
    sha256: str
    size_bytes: int
    image_index: int
    seed: int
    width: int
    height: int
    format: ImageFormat


@dataclass(frozen=True)
class Progress:
    """The work moved on; without an event it passed a checkpoint."""

    session_id: str
    epoch: int
    event: ProgressEvent | SpooledFile | None = None


@dataclass(frozen=True)
class Done:
    """The work is done."""

    session_id: str
    epoch: int
    report: Report


@dataclass(frozen=True)
class Failed:
    """The work failed or was stopped; without a session, the worker cannot start.

    `sticky`: the device is unusable in this process, which ends after this frame.
    `traceback` is for the log only.
    """

    session_id: str
    epoch: int
    error: DomainError
    sticky: bool = False
    traceback: str = ""


@dataclass(frozen=True)
class MemoryProgress:
    """A memory order moves on."""

    done: int


@dataclass(frozen=True)
class MemoryDone:
    """A memory order is done: bytes it was about."""

    done: int = 0


@dataclass(frozen=True)
class MemoryAnswer:
    """About a memory order; the one that is no progress is the last."""

    ticket: int
    answer: MemoryProgress | MemoryDone | DomainError


FromWorker = Hello | Beat | Progress | Done | Failed | MemoryAnswer
