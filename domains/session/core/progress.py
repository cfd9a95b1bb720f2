"""How much of a session's work is done."""

from __future__ import annotations

from domains.session.types import ProgressEvent, StepFinished, TransferProgress

_UNTIL_THE_END = 0.99


class Progress:
    """The done share of work, from what it reports.

    Loading is little of a generation; elsewhere moving bytes is all there is.

    Args:
        total_steps: Denoising steps of all pictures; 0 for other work.
    """

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self._done_steps = 0
        self._moved_share = 0.0  # of the bytes of what is moved now

    def note(self, event: ProgressEvent) -> None:
        """Something of the work is done."""
        if isinstance(event, StepFinished):
            self._done_steps += 1
        elif isinstance(event, TransferProgress) and event.total_bytes:
            self._moved_share = event.done_bytes / event.total_bytes

    @property
    def share(self) -> float:
        """From 0 to just below 1: only what has worked is done."""
        done = self._moved_share
        if self._total_steps:
            done = self._done_steps / self._total_steps
        return min(done, _UNTIL_THE_END)
