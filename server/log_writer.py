"""Writes the log in a thread of its own, and no more of it than is of use.

A full pipe, a slow disk or a paused terminal holds this thread up and nobody else. Lines
that find no place in front of it, and those of a source that floods, are counted, and the
counts are written in their stead.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

import structlog

_MOST_WAITING = 10_000
_LOOK_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
# Of one source: what comes at once, and what goes on coming in a second.
_BURST = 500.0
_PER_SECOND = 50.0
_MOST_SOURCES = 1_000
_LEFT_OUT = "log_lines_left_out"
# What tells sources of the same event apart.
_OF_EVENT = ("device_id", "method", "code")

Source = tuple[str, ...]

_log = structlog.get_logger("deviceops.log")


def source_of(record: logging.LogRecord) -> Source:
    """Who wrote a line: the logger and event, and the device or call it is about."""
    event: Any = record.msg
    if not isinstance(event, dict):
        return (record.name, record.levelname)
    parts = (event.get(name, "") for name in ("event", *_OF_EVENT))
    return (record.name, *(str(part)[:128] for part in parts))


class SourceLimit:
    """Lets a number of lines of each source through, and counts the others.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[Source, tuple[float, float]] = {}  # lines, and when that was
        self._left_out: dict[Source, int] = {}

    def allows(self, source: Source) -> bool:
        """Whether a line of this source is to be written."""
        with self._lock:
            now = self._clock()
            if source not in self._left and len(self._left) >= _MOST_SOURCES:
                self._left.pop(next(iter(self._left)))
            left, since = self._left.get(source, (_BURST, now))
            left = min(_BURST, left + (now - since) * _PER_SECOND)
            if left < 1:
                self._left[source] = (left, now)
                self._left_out[source] = self._left_out.get(source, 0) + 1
                return False
            self._left[source] = (left - 1, now)
            return True

    def take_left_out(self) -> dict[Source, int]:
        """How many lines of each source were left out since this was last asked."""
        with self._lock:
            taken, self._left_out = self._left_out, {}
            return taken


class LogWriter(logging.Handler):
    """Formats lines where they are logged, and writes them in a thread.

    Args:
        output: Where they go.
        most_waiting: Lines that may wait to be written.
        limit: Leaves out what floods.
    """

    def __init__(
        self,
        output: TextIO,
        *,
        most_waiting: int = _MOST_WAITING,
        limit: SourceLimit | None = None,
    ) -> None:
        super().__init__()
        self._output = output
        self._limit = limit or SourceLimit()
        self._waiting: queue.Queue[str | None] = queue.Queue(most_waiting)
        self._overflowed = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put a line in front of the thread; never waits."""
        if not self._limit.allows(source_of(record)):
            return
        try:
            self._waiting.put_nowait(self.format(record))
        except queue.Full:
            self._overflowed += 1
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, for some seconds at most, and end the thread."""
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=_CLOSE_SECONDS)
            self._thread.join(_CLOSE_SECONDS)
        super().close()

    def _write_all(self) -> None:
        looked = time.monotonic()
        line: str | None = ""
        while line is not None:
            with contextlib.suppress(queue.Empty):
                line = self._waiting.get(timeout=_LOOK_SECONDS)
                self._write(line)
            if time.monotonic() - looked >= _LOOK_SECONDS:
                self._report()
                looked = time.monotonic()
        self._report()
        with contextlib.suppress(queue.Empty):
            while True:
                self._write(self._waiting.get_nowait())

    def _report(self) -> None:
        """Log how many lines are missing, and of whom."""
        overflowed, self._overflowed = self._overflowed, 0
        if overflowed:
            _log.warning(_LEFT_OUT, count=overflowed, why="they came faster than written")
        for source, count in self._limit.take_left_out().items():
            name = " ".join(part for part in source if part)
            _log.warning(_LEFT_OUT, count=count, why="too many of one source", source=name)

    def _write(self, line: str | None) -> None:
        # Nobody reads any more, or the disk is full: there is nowhere to say so.
        if line is not None:
            with contextlib.suppress(OSError, ValueError):
                self._output.write(line + "\n")
                self._output.flush()
