"""Several jobs drawn in one go; those that go together share passes through their denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from domains.device.backends.torch_gauge import single_threaded
from domains.device.errors import DeviceLost
from domains.errors import DomainError
from domains.inference.backends.clock import Clock
from domains.inference.backends.denoiser_use import DenoiserUse
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.parts import Parts
from domains.inference.backends.pass_size import PassSize
from domains.inference.backends.sharing import CannotShare, Member, Sharing
from domains.inference.backends.sharing_rules import in_groups, merged, one_by_one, told
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.session.jobs import EncodedImage, JobContext, WorkPaused
from domains.session.types import ProgressEvent
from domains.values import Degradation, DegradationKind

Report = GenerationReport | PausedGeneration
Outcome = GenerationReport | PausedGeneration | DomainError
"""What one of several jobs came to."""
Use = Callable[[LoadedModel, Parts], DenoiserUse]


@dataclass(frozen=True)
class Together:
    """One of several jobs that are drawn in one go.

    `job` is resolved, `context` its own: what is raised by its `check_stop` stops this one
    alone. `finished` are the numbers of its pictures that are out already, not all of them.
    """

    job: GenerationJob
    context: JobContext
    finished: frozenset[int] = frozenset()


class Draw(Protocol):
    """Draws a job's pictures on a device, with torch's errors as the domain's."""

    def __call__(
        self, job: GenerationJob, context: JobContext, clock: Clock, use: Use | None = None
    ) -> Report:
        """Draw them.

        Args:
            job: What to draw.
            context: Its own.
            clock: Counts the seconds.
            use: How the denoiser is used; None: nobody else does.

        Raises:
            DomainError: As `Engine.generate`.
            WorkPaused: Before anything was drawn.
            CannotShare: By `use`.
        """
        ...


@dataclass(frozen=True)
class _Picture:
    """`number` is its job's; `first` is that job's first one, which tells what is of all."""

    number: int
    job: GenerationJob
    context: JobContext
    first: bool

    def heard(self) -> JobContext:
        return self.context if self.first else _LaterPicture(self.context)


class DrawingTogether:
    """Draws several jobs.

    Args:
        device: Where.
        draw: Draws one.
        size: For how many pictures a pass is made.
    """

    def __init__(self, device: torch.device, draw: Draw, size: PassSize) -> None:
        self._device, self._draw, self._size = device, draw, size

    def run(self, jobs: Sequence[Together]) -> list[Outcome]:
        """Draw all their pictures; see `Engine.generate_together`."""
        pictures = [
            _Picture(number, job, each.context, first=place == 0)
            for number, each in enumerate(jobs)
            for place, job in enumerate(one_by_one(each.job, each.finished))
        ]
        found: dict[int, list[Report | DomainError]] = {n: [] for n in range(len(jobs))}
        for group in in_groups([each.job for each in pictures]):
            members = [pictures[position] for position in group]
            for each, outcome in zip(members, self._group(members), strict=True):
                found[each.number].append(outcome)
        return [_of_job(outcomes) for outcomes in found.values()]

    def _group(self, pictures: Sequence[_Picture]) -> list[Report | DomainError]:
        if len(pictures) == 1:
            return [self._alone(each, _why_alone(each)) for each in pictures]
        if single_threaded(self._device):
            return [
                self._alone(each, "this device serves one thread alone") for each in pictures
            ]
        ends = Sharing[Report](self._device, self._size).run(
            [partial(self._shared, each) for each in pictures]
        )
        outcomes: list[Report | DomainError] = []
        for picture, end in zip(pictures, ends, strict=True):
            if isinstance(end.error, CannotShare):
                outcomes.append(self._alone(picture, str(end.error)))
            elif isinstance(end.error, DomainError) and not isinstance(end.error, DeviceLost):
                outcomes.append(end.error)
            elif end.error is not None:
                raise end.error
            else:
                assert end.result is not None, "a picture was drawn"
                outcomes.append(end.result)
        return outcomes

    def _shared(self, picture: _Picture, member: Member[Report]) -> Report:
        clock = Clock(member.now)
        try:
            report = self._draw(picture.job, picture.heard(), clock, member.use)
        except WorkPaused:
            return PausedGeneration(clock.timings())
        return told(report, member.degradations)

    def _alone(self, picture: _Picture, why: str) -> Report | DomainError:
        clock = Clock()
        try:
            report = self._draw(picture.job, picture.heard(), clock)
        except WorkPaused:
            return PausedGeneration(clock.timings())
        except DeviceLost:
            raise
        except DomainError as error:
            return error
        if not why:
            return report
        detail = f"It was drawn with passes of its own: {why}."
        return told(report, [Degradation(DegradationKind.SHARED_LESS, detail)])


def _why_alone(picture: _Picture) -> str:
    """Nothing where there simply is no other one like it."""
    return (
        "" if picture.job.settings.refiner is None else "its model may give way to its refiner"
    )


def _of_job(outcomes: Sequence[Report | DomainError]) -> Outcome:
    for each in outcomes:
        if isinstance(each, DomainError):
            return each
    return merged([each for each in outcomes if not isinstance(each, DomainError)])


@dataclass(frozen=True)
class _LaterPicture:
    """How a picture that is not its job's first speaks: of itself alone."""

    context: JobContext

    def emit(self, event: ProgressEvent | EncodedImage) -> None:
        if getattr(event, "image_index", None) is not None:
            self.context.emit(event)

    def check_stop(self) -> None:
        self.context.check_stop()
