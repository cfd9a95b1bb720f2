"""Ctrl-C as a request instead of an exception: work on the server is ended, not left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """While entered, Ctrl-C calls `act(n)` on a thread of its own, n counting from 1.

    A handler may run between any two instructions of the main thread, with its locks
    held; so it does nothing but put a number into a queue made for that. Outside the
    main thread there are no signals and this does nothing.
    """

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act
        self._count = 0
        self._queue: SimpleQueue[int] = SimpleQueue()
        self._previous: Any = None
        self._thread = threading.Thread(target=self._run, name="interrupts", daemon=True)

    @property
    def count(self) -> int:
        """How often Ctrl-C was pressed."""
        return self._count

    def __enter__(self) -> Self:
        self._thread.start()
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
        self._queue.put(0)
        self._thread.join()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self._queue.put(self._count)

    def _run(self) -> None:
        while press := self._queue.get():
            self._act(press)
