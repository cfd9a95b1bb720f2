"""Where the time of a generation goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from domains.inference.jobs import Timings


class Clock:
    """Adds up seconds per phase; the names are those of `Timings`."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Count the time inside towards `phase`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self._seconds[phase] = self._seconds.get(phase, 0.0) + elapsed

    def timings(self) -> Timings:
        """What came together so far."""
        return Timings(**self._seconds)
