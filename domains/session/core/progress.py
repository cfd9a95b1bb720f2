"""How much of a session's work is done."""

from __future__ import annotations

from domains.session.types import ProgressEvent, StepFinished, TransferProgress

_UNTIL_THE_END = 0.99


class Progress:
    """The done share of work, from what it reports.

    Loading is little of a generation; elsewhere moving bytes is all there is.

    Args:
        pictures: That work draws.
        steps: Denoising steps of each, as far as they are known before; 0 for other work.
    """

    def __init__(self, pictures: int, steps: int) -> None:
        self._pictures = pictures
        self._steps = steps
        self._done_steps = 0
        self._moved_share = 0.0  # of the bytes of what is moved now

    def note(self, event: ProgressEvent) -> None:
        """Something of the work is done."""
        if isinstance(event, StepFinished):
            self._done_steps += 1
            # The work knows it better: where a refiner takes over depends on the model.
            self._steps = event.steps
        elif isinstance(event, TransferProgress) and event.total_bytes:
            self._moved_share = event.done_bytes / event.total_bytes

    @property
    def share(self) -> float:
        """From 0 to just below 1: only what has worked is done."""
        done = self._moved_share
        if self._steps and self._pictures:
            done = self._done_steps / (self._steps * self._pictures)
        return min(done, _UNTIL_THE_END)
