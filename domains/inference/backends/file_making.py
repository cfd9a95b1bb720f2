"""Files of finished pictures are made beside the steps of the next ones.

Encoding needs no device: the device draws the next picture meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from domains.inference.backends.clock import Clock
from domains.session.jobs import EncodedImage, JobContext
from domains.values import Degradation

Make = Callable[[], tuple[EncodedImage, list[Degradation]]]
"""Makes a picture's file, and tells what it has no room for."""


class FileMaking:
    """Makes one file at a time, in a thread of its own; each is out as soon as it is made.

    A context manager: at its end all files are out, however it ends. A picture that is drawn
    when a generation is stopped or pauses is not lost.

    Args:
        context: Hears of every file, in that thread.
        note: Hears of what files have no room for, in that thread.
        clock: Counts the seconds.
    """

    def __init__(
        self, context: JobContext, note: Callable[[Iterable[Degradation]], None], clock: Clock
    ) -> None:
        self._context = context
        self._note = note
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "file")
        self._last: Future[None] | None = None

    def start(self, make: Make) -> None:
        """Make a file, once the one before it is out: no more pictures wait than one.

        Raises:
            Exception: What making that one raised.
        """
        self._wait()
        self._last = self._thread.submit(self._make, make)

    @property
    def at_work(self) -> bool:
        """Whether a file is being made."""
        return self._last is not None and not self._last.done()

    def __enter__(self) -> FileMaking:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the last file.

        Raises:
            Exception: What making it raised.
        """
        with self._thread:
            self._wait()

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def _make(self, make: Make) -> None:
        with self._clock.time("encode_image"):
            encoded, degradations = make()
        self._note(degradations)
        self._context.emit(encoded)
