"""What a chain on a picture keeps from one turn of its session to the next."""

from __future__ import annotations

from msgspec import structs

from domains.chain.jobs import ChainJob, ChainReport, PausedChain
from domains.session.ports import PausedFiles


class Turns:
    """The turns of one chain, of which each goes on where the one before it paused.

    Args:
        files: Where lies what they go on from.
    """

    def __init__(self, files: PausedFiles) -> None:
        self._files, self._file = files, files.new()
        self._before = PausedChain(0.0, 0.0)
        self.judged = False
        """Whether it is known that nothing forbids to work on the picture."""

    @property
    def kept_steps(self) -> int:
        """Steps whose result is kept."""
        return self._before.kept_steps

    def next(self, job: ChainJob) -> ChainJob:
        """The job of the next turn."""
        return structs.replace(job, paused_file=self._file, kept_steps=self.kept_steps)

    def note(self, report: PausedChain) -> None:
        """A turn has ended with a pause."""
        before = self._before
        self._before = structs.replace(
            report,
            load=before.load + report.load,
            postprocess=before.postprocess + report.postprocess,
        )

    def whole(self, report: ChainReport) -> ChainReport:
        """The last turn's report, for all of them."""
        return structs.replace(
            report,
            load=self._before.load + report.load,
            postprocess=self._before.postprocess + report.postprocess,
        )

    def end(self) -> None:
        """There will be no more: nothing is kept."""
        self._files.remove(self._file)
