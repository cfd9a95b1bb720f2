"""Several generations in one go, as a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from domains.errors import Cancelled, DeadlineExceeded, DomainError
from domains.inference.backends.together import Outcome, Together
from domains.inference.jobs import (
    PausedGeneration,
    PausedPart,
    SharedGenerationJob,
    SharedReport,
)
from domains.session.jobs import EncodedImage, JobContext, PartEnded
from domains.session.types import ProgressEvent, counted_on


class DrawsTogether(Protocol):
    """What draws them."""

    def __call__(self, jobs: Sequence[Together]) -> list[Outcome]:
        """See `Engine.generate_together`."""
        ...


@dataclass(frozen=True)
class SharedGeneration:
    """Does such jobs.

    Args:
        draw: Draws their generations.
    """

    draw: DrawsTogether

    def run(self, job: SharedGenerationJob, context: JobContext) -> SharedReport:
        """Draw all; one that fails does so alone. Each is told as soon as it has ended.

        Raises:
            Cancelled: All were stopped.
            DeadlineExceeded: Likewise.
            Unavailable: DEVICE_LOST.
        """

        def ended(part: int, outcome: Outcome) -> None:
            if isinstance(outcome, PausedGeneration | Cancelled | DeadlineExceeded):
                return  # what ends one of them so ends all
            if isinstance(outcome, DomainError):
                context.emit(PartEnded(part, outcome.failure()))
            else:
                context.emit(PartEnded(part, outcome))

        outcomes = self.draw(
            [
                Together(
                    each,
                    _Counted(context, first),
                    _within(job.finished, first),
                    partial(ended, part),
                )
                for part, (each, first) in enumerate(zip(job.jobs, job.firsts, strict=True))
            ]
        )
        for outcome in outcomes:
            if isinstance(outcome, Cancelled | DeadlineExceeded):
                raise outcome
        return SharedReport(
            tuple(
                PausedPart(part, outcome)
                for part, outcome in enumerate(outcomes)
                if isinstance(outcome, PausedGeneration)
            )
        )


def _within(finished: Sequence[int], first: int) -> frozenset[int]:
    """The numbers that a generation counts its own by; those of others do not matter."""
    return frozenset(number - first for number in finished if number >= first)


@dataclass(frozen=True)
class _Counted:
    """How one of them speaks: its pictures are counted on from those before."""

    context: JobContext
    first: int

    def emit(self, event: ProgressEvent | EncodedImage | PartEnded) -> None:
        if isinstance(event, EncodedImage):
            event = replace(event, image_index=event.image_index + self.first)
        elif not isinstance(event, PartEnded):
            event = counted_on(event, self.first)
        self.context.emit(event)

    def check_stop(self) -> None:
        self.context.check_stop()
