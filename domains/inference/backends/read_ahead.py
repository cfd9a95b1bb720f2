"""A weight file read by several threads before its tensors are asked for.

A device that fetches from main memory waits for one thread that reads and copies by turns; here
the next pieces are read meanwhile, into page-locked buffers where the driver has such.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO

import torch

from domains.model.backends.model_plan import WeightFile
from domains.model.backends.shared_file import SharedFile

_PIECE_BYTES = 64 << 20
THREADS = min(8, max(2, (os.cpu_count() or 2) // 2))
# A tensor larger than a piece is one: the buffers are fewer then.
_MOST_BYTES = 512 << 20
_READ_BYTES = 8 << 20


class ReadAhead:
    """See `FileBytes`. What it lends is there until something behind it is asked for.

    Args:
        file: Open for reading, and its user's to close.
        page_locked: Whether the driver can lock pages.
    """

    def __init__(self, file: FileIO, *, page_locked: bool) -> None:
        self._file = file
        self._page_locked = page_locked
        self._shared = SharedFile(file)
        self._ended = threading.Event()
        self._threads = ThreadPoolExecutor(THREADS, "read-ahead")
        self._waiting: deque[tuple[int, int]] = deque()
        self._reading: deque[tuple[int, int, memoryview, Future[bool]]] = deque()

    @property
    def size_bytes(self) -> int:
        """See `FileBytes`."""
        return os.fstat(self._file.fileno()).st_size

    def read_into(self, offset: int, target: memoryview) -> int:
        """See `FileBytes`."""
        return self._shared.read_into(offset, target)

    def announce(self, pieces: Sequence[tuple[int, int]]) -> None:
        """Begin to read; see `FileBytes`."""
        spans = _spans(pieces)
        size = max((end - begin for begin, end in spans), default=0)
        self._waiting.extend(spans)
        count = min(THREADS, max(2, _MOST_BYTES // max(1, size)))
        for _ in range(min(count, len(spans))):
            buffer = torch.empty(size, dtype=torch.uint8, pin_memory=self._page_locked)
            self._read_next(memoryview(buffer.numpy()))  # type: ignore[arg-type]

    def lend(self, offset: int, length: int) -> memoryview | None:
        """What was announced; None where the file ends before, and for anything else.

        Raises:
            OSError: The machine cannot read it at the moment.
        """
        while self._reading:
            begin, end, buffer, whole = self._reading[0]
            if begin <= offset and offset + length <= end:
                if not whole.result():
                    return None
                return buffer[offset - begin : offset - begin + length]
            self._reading.popleft()
            whole.result()
            self._read_next(buffer)
        return None

    def close(self) -> None:
        """Stop reading; waits for reads that have begun."""
        self._ended.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _read_next(self, buffer: memoryview) -> None:
        if self._waiting:
            begin, end = self._waiting.popleft()
            whole = self._threads.submit(self._read, begin, buffer[: end - begin])
            self._reading.append((begin, end, buffer, whole))

    def _read(self, begin: int, target: memoryview) -> bool:
        """Whether the file had all of it."""
        done = 0
        while done < len(target) and not self._ended.is_set():
            count = self.read_into(begin + done, target[done : done + _READ_BYTES])
            if not count:
                return False
            done += count
        return done == len(target)


@contextmanager
def read_ahead(file: WeightFile) -> Iterator[ReadAhead]:
    """The file on disk, read ahead; see `OpenBytes`."""
    with file.open() as opened:
        reading = ReadAhead(opened, page_locked=torch.cuda.is_available())
        try:
            yield reading
        finally:
            reading.close()


def _spans(pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Begin and end of what is read at once: pieces that follow each other, up to a size."""
    spans: list[tuple[int, int]] = []
    for offset, length in pieces:
        end = offset + length
        if spans and spans[-1][1] == offset and end - spans[-1][0] <= _PIECE_BYTES:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((offset, end))
    return spans
