"""What a generation keeps from one turn of its session to the next."""

from __future__ import annotations

import weakref

from msgspec import structs

from domains.inference.jobs import (
    GenerationJob,
    GenerationReport,
    PausedGeneration,
    Timings,
)
from domains.inference.ports import PausedFiles
from domains.values import Degradation


class Turns:
    """The turns of one generation, of which each goes on where the one before it paused.

    The file of its unfinished picture goes when nobody holds this any more.

    Args:
        files: Where unfinished pictures lie.
    """

    def __init__(self, files: PausedFiles) -> None:
        self._file = files.new()
        self._timings = Timings()
        self._degradations: tuple[Degradation, ...] = ()
        self._kept_steps = 0
        weakref.finalize(self, files.remove, self._file)

    def next(self, job: GenerationJob, finished: int) -> GenerationJob:
        """The job of the next turn, with so many finished pictures."""
        return structs.replace(
            job, first_image=finished, paused_file=self._file, kept_steps=self._kept_steps
        )

    def note(self, report: PausedGeneration) -> None:
        """A turn has ended with a pause."""
        self._kept_steps = report.kept_steps
        self._timings = self._timings + report.timings
        self._degradations = self._with(report.degradations)

    def whole(self, report: GenerationReport) -> GenerationReport:
        """The last turn's report, for all of them."""
        return structs.replace(
            report,
            timings=self._timings + report.timings,
            degradations=self._with(report.degradations),
        )

    def _with(self, later: tuple[Degradation, ...]) -> tuple[Degradation, ...]:
        return tuple(dict.fromkeys((*self._degradations, *later)))
