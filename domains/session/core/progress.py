"""How much of a session's work is done."""

from __future__ import annotations

from collections import Counter

from domains.session.types import ProgressEvent, StepFinished, TransferProgress

_UNTIL_THE_END = 0.99


class Progress:
    """The done share of work, from what it reports.

    Loading is little of a generation; elsewhere moving bytes is all there is.

    Args:
        total_steps: Denoising steps of all pictures; 0 for other work.
        image_count: Pictures, likewise.
        share: Of other work, how much is done already.
    """

    def __init__(self, total_steps: int, image_count: int = 0, share: float = 0.0) -> None:
        self._total_steps, self.image_count = total_steps, image_count
        self._done_steps: Counter[int] = Counter()  # by picture
        self._at_work = 0  # the picture of the last step
        self._finished: set[int] = set()
        self.kept_steps = 0
        """Of a picture that was not finished when work last stopped."""
        self._moved_share = share  # of the bytes of what is moved now

    def note(self, event: ProgressEvent) -> None:
        """Something of the work is done."""
        if isinstance(event, StepFinished):
            self._at_work = event.image_index
            self._done_steps[self._at_work] += 1
        elif isinstance(event, TransferProgress) and event.total_bytes:
            self._moved_share = event.done_bytes / event.total_bytes

    def reach(self, share: float) -> None:
        """So much of other work is done, from 0 to 1."""
        self._moved_share = share

    def finish(self, index: int) -> None:
        """A picture is kept."""
        self._finished.add(index)

    def set_back(self, kept_steps: int) -> None:
        """Work has stopped, to go on later: of the picture at work so many steps are kept. All
        others of pictures that are not finished lie ahead again."""
        self.kept_steps = kept_steps
        for index in self._done_steps.keys() - self._finished:
            kept = kept_steps if index == self._at_work else 0
            self._done_steps[index] = min(kept, self._done_steps[index])

    @property
    def steps_share(self) -> float:
        """The share of the steps, from 0 to 1; 0 where there are none."""
        if not self._total_steps:
            return 0.0
        return min(self._done_steps.total() / self._total_steps, 1.0)

    @property
    def images_share(self) -> float:
        """The share of the pictures that is finished; of work that draws none, what it told."""
        return len(self._finished) / self.image_count if self.image_count else self._moved_share

    @property
    def share(self) -> float:
        """From 0 to just below 1: only what has worked is done."""
        done = self.steps_share if self._total_steps else self._moved_share
        return min(done, _UNTIL_THE_END)
