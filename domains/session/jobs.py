"""Work on a device, as values: what is asked, what happens meanwhile, what it comes to.

A job crosses to the device's worker as it is; a handler there does it. What the worker says
about it is checked against the job before anybody sees it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, get_args

from msgspec import structs

from domains.codec import Value
from domains.safety import SafetyVerdict
from domains.session.types import (
    ImageResult,
    Phase,
    PhaseStarted,
    ProgressEvent,
    StepFinished,
    TransferProgress,
)
from domains.values import ByteFigure, CachedModel, ImageFileFormat, ModelPlace

Report = TypeVar("Report")


@dataclass(frozen=True)
class EncodedImage:
    """One finished picture as its handler has it: the bytes of a complete file, and whether
    its pixels bear the invisible mark; no bytes where its verdict `safety` withholds it."""

    image_index: int
    seed: int | None
    width: int
    height: int
    format: ImageFileFormat
    data: bytes
    watermark: bool = False
    safety: SafetyVerdict | None = None


@dataclass(frozen=True)
class SpooledImage:
    """One finished picture as the front has it: a complete file that its receiver owns; None
    where it is withheld."""

    image: ImageResult
    path: Path | None


@dataclass(frozen=True)
class PartEnded:
    """A part of a job has come to its end before all of it has; its pictures came before.

    `part` is its position; `outcome` what it came to, of the job's `part_type`.
    """

    part: int
    outcome: Any


@dataclass(frozen=True)
class PeakMemory:
    """The most memory of the device while the job was done; comes after its other events."""

    figure: ByteFigure


class WorkPaused(Exception):
    """Work that was asked to pause stops here; it goes on later with what it has kept.

    Args:
        kept_steps: Those of the picture at work that are kept.
    """

    def __init__(self, kept_steps: int = 0) -> None:
        super().__init__()
        self.kept_steps = kept_steps


JobEvent = ProgressEvent | SpooledImage | PartEnded | PeakMemory
"""What the front receives while a job is done."""


@dataclass(frozen=True)
class ModelFiles:
    """A model that a job works with, and where it lies; `beside` are those it uses with it."""

    model_id: str
    path: Path
    beside: tuple[ModelFiles, ...] = ()

    @property
    def paths(self) -> frozenset[Path]:
        """Where all of them lie."""
        return frozenset({self.path, *(each.path for each in self.beside)})


class Job(Value, Generic[Report], frozen=True):
    """What is to be done on a device; `Report` is the type of what it comes to.

    A job that has more events than these, or pictures, says so by overriding what is here.
    """

    events: ClassVar[tuple[type, ...]] = (PhaseStarted, TransferProgress, StepFinished)
    """The kinds of events that it has."""
    part_type: ClassVar[Any] = None
    """The type of what its parts come to; None where it has no parts."""

    @property
    def image_count(self) -> int:
        """How many pictures its events can be about."""
        return 0

    @property
    def model(self) -> ModelFiles | None:
        """The model that it works with, if it works with one."""
        return None

    @property
    def places(self) -> Mapping[str, ModelPlace]:
        """Where models lie, by id, that it takes from main memory if they are there: the one
        in its field `place`, if it has the field `cached` too."""
        place, model = getattr(self, "place", None), self.model
        if model is None or not isinstance(place, ModelPlace) or not hasattr(self, "cached"):
            return {}
        return {model.model_id: place}

    def with_cached(self, cached: Mapping[str, CachedModel]) -> Self:
        """The same, with what main memory has of those models."""
        return structs.replace(
            self, cached=None if self.model is None else cached.get(self.model.model_id)
        )

    def accepts(self, image: ImageResult) -> bool:
        """Whether it asked for this picture."""
        return False

    def due_images(self, report: Report) -> int:
        """How many finished pictures there are when it has come to that."""
        return 0

    def due_from(self, part: int, outcome: Any) -> Collection[int]:
        """The numbers of the finished pictures there are when that part has come to that.

        Raises:
            IndexError: It has no such part.
        """
        raise IndexError(part)

    def due_parts(self, report: Report) -> Collection[int]:
        """Which of its parts have ended when it has come to that."""
        return ()

    def paused(self, report: Report) -> bool:
        """Whether that is no end of it: it stopped as it was asked to, and can go on."""
        return False

    @classmethod
    def report_type(cls) -> Any:
        """The type of what it comes to."""
        for base in cls.__orig_bases__:  # type: ignore[attr-defined]
            if get_args(base):
                return get_args(base)[0]
        raise TypeError(f"{cls.__name__} does not say what it comes to")


class JobContext(Protocol):
    """How a handler speaks to whoever asked for its job."""

    def emit(self, event: ProgressEvent | EncodedImage | PartEnded) -> None:
        """Say what happened; does not block for long."""
        ...

    def check_stop(self) -> None:
        """Call between pieces of work: raises what the job is to be stopped with.

        Raises:
            WorkPaused: It is to end with what it needs to go on; only where somebody asked a
                job to pause that can. Whoever cannot keep that here goes on: it is raised
                again at the next call.
            DomainError: It is to end.
        """
        ...


Handler = Callable[[Any, JobContext], Any]
"""Does the jobs of one type in a device's worker, one at a time; raises DomainError."""


class JobRunner(Protocol):
    """The workers, as domains see them: one job at a time on each device."""

    def run(
        self, device_id: str, session_id: str, job: Job[Report], *, remaining: float
    ) -> AsyncGenerator[JobEvent | Report]:
        """Do `job` on a device's worker, waiting for a starting or recovering worker.

        Yields events as they happen and the report last. Pictures that were yielded are
        the caller's files. Closing the generator early stops the job as `cancel` does and
        returns when the worker is idle or replaced.

        Args:
            device_id: The device; the caller's queue has made sure that it is free.
            session_id: Names the run for `cancel`.
            job: What to do.
            remaining: Seconds left; the job is stopped when they are over.

        Raises:
            Unavailable: The worker was lost (WORKER_LOST), there is none
                (DEVICE_UNAVAILABLE), or the device is quarantined (DEVICE_QUARANTINED).
            Cancelled: `cancel` was called.
            DeadlineExceeded: `remaining` is over, or the work hung (WORKER_HUNG).
            DomainError: Whatever the job's handler raised.
        """
        ...

    def cancel(self, device_id: str, session_id: str) -> None:
        """Ask a job to stop; nothing happens when `session_id` is not what runs there.

        Its generator raises `Cancelled` after the current step, at the latest when the
        worker had to be killed because it did not answer.
        """
        ...


class PausingRunner(JobRunner, Protocol):
    """The workers, where a job that can pause may be asked to."""

    def pause(self, device_id: str, session_id: str) -> None:
        """Ask a job that can pause to do so; nothing happens when it does not run there.

        One that has begun comes to a report of which `Job.paused` is true, or to its end if
        that was nearer; the generator of another one raises `WorkPaused`.
        """
        ...


class ModelRunner(PausingRunner, Protocol):
    """The workers, with main memory before them from which models come onto devices."""

    def loading(self, device_id: str, *model_ids: str) -> tuple[Phase, ...]:
        """The phases in which models come onto a device, in order: READING where one would
        be read into main memory first, as things are now; then LOADING_MODEL."""
        ...
