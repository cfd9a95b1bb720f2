"""Where the time of a generation goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from domains.inference.jobs import Timings


class Clock:
    """Adds up seconds per phase; the names are those of `Timings`.

    Args:
        now: Tells seconds, from any beginning; they may stand still while others work.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self._seconds: dict[str, float] = {}

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Count the time inside towards `phase`."""
        start = self.now()
        try:
            yield
        finally:
            elapsed = self.now() - start
            self._seconds[phase] = self._seconds.get(phase, 0.0) + elapsed

    def timings(self) -> Timings:
        """What came together so far."""
        return Timings(**self._seconds)
