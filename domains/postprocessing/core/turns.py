"""What a chain on a picture keeps from one turn of its session to the next."""

from __future__ import annotations

from typing import TypeVar

from msgspec import structs

from domains.chain.jobs import ChainJob, ChainReport, PausedChain
from domains.chain.types import Steps, UpscaleStep
from domains.session.core.session import Session
from domains.session.ports import PausedFiles
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished, ProgressEvent

_Report = TypeVar("_Report", ChainReport, PausedChain)


class Turns:
    """The turns of one chain, of which each goes on where the one before it paused.

    Args:
        files: Where lies what they go on from.
    """

    def __init__(self, files: PausedFiles) -> None:
        self._files, self._file = files, files.new()
        self._before = PausedChain(0.0, 0.0)
        self._done, self._share = 0, 0.0  # steps, and how much of all
        self.judged = False
        """Whether it is known that nothing forbids to work on the picture."""

    @property
    def kept_steps(self) -> int:
        """Steps whose result is kept."""
        return self._before.kept.steps

    def next(self, job: ChainJob) -> ChainJob:
        """The job of the next turn."""
        kept = self._before.kept
        return structs.replace(
            job, paused_file=self._file, kept_steps=kept.steps, kept_tiles=kept.tiles
        )

    def hear(self, event: ProgressEvent, steps: Steps, session: Session) -> None:
        """Have the session know how much of the steps is done, and that others may have their
        turn once something is that a pause keeps."""
        if isinstance(event, PhaseStarted) and event.phase is Phase.POSTPROCESSING:
            self._done, self._share = event.kept_steps, 0.0
        if not isinstance(event, PieceFinished):
            return
        if event.piece is Piece.STEP:
            self._done, share, kept = event.done, 0.0, True
        else:
            share = event.done / event.total
            upscales = any(isinstance(each, UpscaleStep) for each in steps[self._done :][:1])
            kept = upscales and not self._before.kept.lost_tiles
        # Tiles are counted anew for an alpha; what was told of is not taken back.
        self._share = max(self._share, (self._done + share) / max(len(steps), 1))
        session.done.reach(self._share)
        if kept:
            session.times.note_step()

    def note(self, report: PausedChain) -> None:
        """A turn has ended with a pause."""
        self._before = self._with(report)

    def whole(self, report: ChainReport) -> ChainReport:
        """The last turn's report, for all of them."""
        return self._with(report)

    def end(self) -> None:
        """There will be no more: nothing is kept."""
        self._files.remove(self._file)

    def _with(self, report: _Report) -> _Report:
        before = self._before
        return structs.replace(
            report,
            load=before.load + report.load,
            postprocess=before.postprocess + report.postprocess,
        )
