"""Progress by bytes, said often enough to be seen and seldom enough to be kept."""

from __future__ import annotations

from domains.session.jobs import JobContext
from domains.session.types import TransferProgress

_STEPS = 200
_LEAST_BYTES = 8 << 20


class Progress:
    """Counts what is done of a job's bytes.

    Args:
        context: Who is told.
        total: Bytes in all, each counted as often as it is worked on.
    """

    def __init__(self, context: JobContext, total: int) -> None:
        self._context = context
        self._total = total
        self._done = 0
        self._said = 0

    def add(self, item: str, count: int) -> None:
        """So many more are done, of that file."""
        self._done = min(self._done + count, self._total)
        if self._done - self._said < max(self._total // _STEPS, _LEAST_BYTES):
            return
        self._say(item)

    def end(self, item: str) -> None:
        """Everything is done."""
        self._done = self._total
        self._say(item)

    def _say(self, item: str) -> None:
        self._said = self._done
        self._context.emit(TransferProgress(item, self._done, self._total))
