"""Work on many bytes: in chunks, in two threads that take them as they come free, stoppable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

CHUNK_BYTES = 32 << 20
"""Between two looks at whether to stop: milliseconds of copying. In smaller ones memcpy does
not go around the caches, and is slower."""
SPLIT_BYTES = 1 << 20
"""From here on two threads are faster than one."""


@dataclass(frozen=True)
class Watch:
    """Who is told how far a move is, and asked whether it goes on.

    `checkpoint` raises to stop the move; whatever it raises passes through.
    """

    progress: Callable[[int], None]
    checkpoint: Callable[[], None]

    def passed(self, done: int) -> None:
        """So many bytes are done."""
        self.progress(done)
        self.checkpoint()


def chunks(length: int, size: int = CHUNK_BYTES) -> Iterator[tuple[int, int]]:
    """Offset and size of each chunk, in order."""
    for offset in range(0, length, size):
        yield offset, min(size, length - offset)


def in_two_threads(act: Callable[[int, int], bool], length: int, watch: Watch) -> int:
    """Have `act(offset, size)` work on every chunk, in order but two at a time.

    Neither thread waits for the other before the end, so a processor that also does
    something else costs no more than what it does. When the call ends, also by an
    exception, nothing is being worked on.

    Args:
        act: Works on a chunk, from any thread; says whether all is well. After the first
            chunk that is not, no further one is begun.
        length: How many bytes there are.
        watch: Told and asked, in the calling thread.

    Returns:
        `length`, or the offset of the first chunk that was not well.
    """
    split = length >= SPLIT_BYTES
    left = chunks(length, min(CHUNK_BYTES, -(-length // 2)) if split else CHUNK_BYTES)
    lock = threading.Lock()
    stopped = False
    done, well = 0, length

    def work(tell: Callable[[int], None]) -> None:
        nonlocal done, well, stopped
        try:
            while True:
                with lock:
                    chunk = None if stopped else next(left, None)
                if chunk is None:
                    return
                offset, size = chunk
                fine = act(offset, size)
                with lock:
                    done += size
                    if not fine:
                        well, stopped = min(well, offset), True
                    so_far = done
                if so_far < length:
                    tell(so_far)
        except BaseException:
            stopped = True
            raise

    with ThreadPoolExecutor(1, thread_name_prefix="chunks") as other:
        helper = other.submit(work, lambda _done: None) if split else None
        work(watch.passed)
        if helper is not None:
            helper.result()
    if well == length:
        watch.passed(length)
    return well
