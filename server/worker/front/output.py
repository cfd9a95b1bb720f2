"""What a worker prints, read at a bounded rate: it may print without end.

Reading slowly makes a worker that prints too much wait for its own output, which costs the
front next to nothing. Of lines that come too fast most are counted instead of passed on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO

from server.allowance import Allowance

_LONGEST_LINE = 4096
_KEPT_LINES = 50
_BYTES = (1 << 20, 128 << 10)
_LINES = (200, 10)


class WorkerOutput:
    """Reads a worker's output to its end in a thread of its own.

    Args:
        stream: What it prints; closed at its end.
        on_line: Called in that thread with each line, cut and printable.
        gone: Set when the worker has ended: what is left is then read at once.
    """

    def __init__(
        self, stream: IO[bytes], on_line: Callable[[str], None], gone: threading.Event
    ) -> None:
        self._stream = stream
        self._on_line = on_line
        self._gone = gone
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._thread = threading.Thread(target=self._read, name="worker-output", daemon=True)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines it printed."""
        return tuple(self._lines)

    def start(self) -> None:
        """Begin to read.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._thread.start()

    def close(self) -> None:
        """Let go of the output of a worker that has ended; waits a second for its rest."""
        if self._thread.ident is None:
            self._stream.close()
        else:
            self._thread.join(timeout=1)

    def _read(self) -> None:
        amount, lines = Allowance(*_BYTES), Allowance(*_LINES)
        omitted = 0
        with self._stream:
            for line in self._pieces():
                self._lines.append(line)
                if lines.has(1):
                    omitted = self._say_omitted(omitted)
                    self._on_line(line)
                else:
                    omitted += 1
                wait = amount.take(len(line) + 1)
                if wait:
                    self._gone.wait(wait)
            self._say_omitted(omitted)

    def _say_omitted(self, count: int) -> int:
        if count:
            self._on_line(f"WARNING {count} lines were left out: too many at once.")
        return 0

    def _pieces(self) -> Iterator[str]:
        """Lines of bounded length, printable."""
        while line := self._stream.readline(_LONGEST_LINE):
            text = line.decode("utf-8", "replace").rstrip()
            yield "".join(character if character.isprintable() else " " for character in text)
