"""Work on many bytes: in chunks, in two threads that take them as they come free, stoppable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

CHUNK_BYTES = 32 << 20
"""Between two looks at whether to stop: milliseconds of copying. In smaller ones memcpy does
not go around the caches, and is slower."""
SPLIT_BYTES = 1 << 20
"""From here on two threads are faster than one."""


@dataclass(frozen=True)
class Guard:
    """Watches over work on bytes: `progress` hears how far it is, `check_stop` may stop it.

    `check_stop` raises to stop the work; whatever it raises passes through.
    """

    progress: Callable[[int], None]
    check_stop: Callable[[], None]

    def passed(self, done: int) -> None:
        """So many bytes are done."""
        self.progress(done)
        self.check_stop()


def chunks(length: int, size: int = CHUNK_BYTES) -> Iterator[tuple[int, int]]:
    """Offset and size of each chunk, in order."""
    for offset in range(0, length, size):
        yield offset, min(size, length - offset)


def in_two_threads(act: Callable[[int, int], bool], length: int, guard: Guard) -> int:
    """Have `act(offset, size)` work on every chunk, in order but two at a time.

    Neither thread waits for the other before the end, so a processor that also does
    something else costs no more than what it does. When the call ends, also by an
    exception, nothing is being worked on.

    Args:
        act: Works on a chunk, from any thread; says whether all is well. After the first
            chunk that is not, no further one is begun.
        length: How many bytes there are.
        guard: Called in the calling thread.

    Returns:
        `length`, or the offset of the first chunk that was not well.
    """
    split = length >= SPLIT_BYTES
    left = chunks(length, min(CHUNK_BYTES, -(-length // 2)) if split else CHUNK_BYTES)
    lock = threading.Lock()
    stopped = False
    done, well = 0, length

    def work(report: Callable[[int], None]) -> None:
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
                    report(so_far)
        except BaseException:
            stopped = True
            raise

    with ThreadPoolExecutor(1, thread_name_prefix="chunks") as other:
        helper = None
        if split:
            with suppress(RuntimeError):  # no thread to be had: one does it alone
                helper = other.submit(work, lambda _done: None)
        work(guard.passed)
        if helper is not None:
            helper.result()
    if well == length:
        guard.passed(length)
    return well
