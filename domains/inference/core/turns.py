"""What a generation keeps from one turn of its session to the next."""

from __future__ import annotations

from typing import TypeVar

from msgspec import structs

from domains.inference.jobs import (
    GenerationJob,
    GenerationReport,
    PausedGeneration,
    Timings,
)
from domains.session.ports import PausedFiles

_Report = TypeVar("_Report", GenerationReport, PausedGeneration)
_Item = TypeVar("_Item")


class Turns:
    """The turns of one generation, of which each goes on where the one before it paused.

    Args:
        files: Where unfinished pictures lie.
    """

    def __init__(self, files: PausedFiles) -> None:
        self._files, self._file = files, files.new()
        self._before = PausedGeneration(Timings())
        self.judged = False
        """Whether it is known that nothing forbids to draw it."""
        self.timed_all = True
        """Whether its turns told how long all its pictures took."""
        self._timed = 0  # pictures of turns that told it

    @property
    def kept_steps(self) -> int:
        """Steps of the picture at work that are kept."""
        return self._before.kept_steps

    def begin(self, finished: int) -> None:
        """The next turn begins, with so many finished pictures. Of those that came before the
        loss of a worker or of a server nobody knows how long they took."""
        self.timed_all = self.timed_all and finished == self._timed

    def next(self, job: GenerationJob, finished: int) -> GenerationJob:
        """The job of the next turn, which begins with so many finished pictures."""
        self.begin(finished)
        return structs.replace(
            job, first_image=finished, paused_file=self._file, kept_steps=self.kept_steps
        )

    def note(self, report: PausedGeneration, finished: int) -> None:
        """A turn has ended with a pause, with so many finished pictures."""
        self._timed = finished
        self._before = self._with(report)

    def whole(self, report: GenerationReport) -> GenerationReport:
        """The last turn's report, for all of them."""
        return self._with(report)

    def end(self) -> None:
        """There will be no more: nothing is kept."""
        self._files.remove(self._file)

    def _with(self, report: _Report) -> _Report:
        before = self._before
        return structs.replace(
            report,
            timings=before.timings + report.timings,
            degradations=_each_once(before.degradations, report.degradations),
            data_types=_each_once(before.data_types, report.data_types),
            computed=before.computed | report.computed,
        )


def _each_once(some: tuple[_Item, ...], others: tuple[_Item, ...]) -> tuple[_Item, ...]:
    return tuple(dict.fromkeys((*some, *others)))
