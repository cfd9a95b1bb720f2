"""What the front and a worker tell each other, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from domains.errors import DomainError
from domains.inference.types import GenerationReport, GenerationWork, ProgressEvent
from domains.session.types import ImageFormat

PROTOCOL_VERSION = 1


class ProtocolError(Exception):
    """The other end broke the rules of the link; the text says which, without its words."""


# From the front to a worker.


@dataclass(frozen=True)
class Run:
    """Work to do within `remaining` seconds; answers carry `session_id` and `epoch`."""

    session_id: str
    epoch: int
    remaining: float
    work: GenerationWork


@dataclass(frozen=True)
class Cancel:
    """Stop that session; ignored when it is not the one that runs."""

    session_id: str


@dataclass(frozen=True)
class Shutdown:
    """End after what runs."""


ToWorker = Run | Cancel | Shutdown


# From a worker to the front.


@dataclass(frozen=True)
class Hello:
    """First frame: who it is, and that it can work."""

    protocol_version: int
    device_id: str
    process_id: int
    software_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Beat:
    """The process lives, which says nothing about its work."""

    resident_bytes: int


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
    report: GenerationReport


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


FromWorker = Hello | Beat | Progress | Done | Failed
