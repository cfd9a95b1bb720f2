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
from collections import Counter
from collections.abc import Callable
from typing import Any, TextIO

import structlog

from server.allowance import Allowance

_MOST_WAITING = 10_000
_LOOK_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
# Of one source: what comes at once, and what goes on coming in a second.
_BURST = 500
_PER_SECOND = 50
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
        self._allowances: dict[Source, Allowance] = {}
        self._left_out: Counter[Source] = Counter()

    def allows(self, source: Source) -> bool:
        """Whether a line of this source is to be written."""
        with self._lock:
            if source not in self._allowances:
                if len(self._allowances) >= _MOST_SOURCES:
                    self._allowances.pop(next(iter(self._allowances)))
                self._allowances[source] = Allowance(_BURST, _PER_SECOND, self._clock)
            if self._allowances[source].has(1):
                return True
            self._left_out[source] += 1
            return False

    def take_left_out(self) -> dict[Source, int]:
        """How many lines of each source were left out since this was last asked."""
        with self._lock:
            taken, self._left_out = self._left_out, Counter()
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
        self._alone = False
        try:
            self._thread.start()
        except RuntimeError:  # The system gives no thread, and somebody has to say so.
            self._alone = True

    def emit(self, record: logging.LogRecord) -> None:
        """Put a line in front of the thread; never waits."""
        if not self._limit.allows(source_of(record)):
            return
        try:
            line = self.format(record)
            if self._alone:
                self._write(line)
            else:
                self._waiting.put_nowait(line)
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
