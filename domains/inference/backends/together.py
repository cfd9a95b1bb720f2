"""Several jobs drawn in one go; those that go together share passes through their denoiser."""

from __future__ import annotations

from collections import Counter, defaultdict
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
from domains.inference.backends.strands import Ended
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.session.jobs import EncodedImage, JobContext, PartEnded, WorkPaused
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
    `ended` hears what it came to as soon as its last picture has ended, while others go on.
    """

    job: GenerationJob
    context: JobContext
    finished: frozenset[int] = frozenset()
    ended: Callable[[Outcome], None] | None = None


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
    """`number` is its job's, `place` its own among that job's; the first one tells what is of
    all."""

    number: int
    place: int
    job: GenerationJob
    context: JobContext

    def heard(self) -> JobContext:
        return self.context if self.place == 0 else _LaterPicture(self.context)


class _Ends:
    """What pictures came to, until all of their job have ended."""

    def __init__(self, jobs: Sequence[Together], pictures: Sequence[_Picture]) -> None:
        self._jobs = jobs
        self._due = Counter(each.number for each in pictures)
        self._found: dict[int, dict[int, Report | DomainError]] = defaultdict(dict)
        self.outcomes: dict[int, Outcome] = {}
        """What jobs came to."""

    def note(self, picture: _Picture, end: Report | DomainError) -> None:
        """It came to that."""
        number, found = picture.number, self._found[picture.number]
        found[picture.place] = end
        if len(found) < self._due[number]:
            return
        self.outcomes[number] = _of_job([found[place] for place in sorted(found)])
        if (ended := self._jobs[number].ended) is not None:
            ended(self.outcomes[number])


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
            _Picture(number, place, job, each.context)
            for number, each in enumerate(jobs)
            for place, job in enumerate(one_by_one(each.job, each.finished))
        ]
        ends = _Ends(jobs, pictures)
        for group in in_groups([each.job for each in pictures]):
            for picture, why in self._drawn_alone([pictures[each] for each in group], ends):
                ends.note(picture, self._alone(picture, why))
        return [ends.outcomes[number] for number in range(len(jobs))]

    def _drawn_alone(
        self, pictures: Sequence[_Picture], ends: _Ends
    ) -> list[tuple[_Picture, str]]:
        """Draw those that share passes; which are to be drawn alone, and why."""
        if len(pictures) == 1:
            return [(each, _why_alone(each)) for each in pictures]
        if single_threaded(self._device):
            return [(each, "this device serves one thread alone") for each in pictures]
        alone: list[tuple[_Picture, str]] = []
        broken: list[BaseException] = []

        def ended(position: int, end: Ended[Report]) -> None:
            picture = pictures[position]
            if isinstance(end.error, CannotShare):
                alone.append((picture, str(end.error)))
            elif isinstance(end.error, DomainError) and not isinstance(end.error, DeviceLost):
                ends.note(picture, end.error)
            elif end.error is not None:
                broken.append(end.error)
            else:
                assert end.result is not None, "a picture was drawn"
                ends.note(picture, end.result)

        works = [partial(self._shared, each) for each in pictures]
        Sharing[Report](self._device, self._size).run(works, ended)
        if broken:
            raise broken[0]
        return alone

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

    def emit(self, event: ProgressEvent | EncodedImage | PartEnded) -> None:
        if getattr(event, "image_index", None) is not None:
            self.context.emit(event)

    def check_stop(self) -> None:
        self.context.check_stop()
