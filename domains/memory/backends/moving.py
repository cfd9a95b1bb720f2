"""Bytes from one address of this process to another: in chunks, hashed, stoppable."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from domains.memory.backends.chunks import Watch, chunks, in_two_threads
from domains.memory.types import Moved


@dataclass(frozen=True)
class HostSpan:
    """Bytes at an address. `prepare(offset, length)` is called before they are touched."""

    address: int
    prepare: Callable[[int, int], None] = lambda _offset, _length: None


class Hasher:
    """SHA-256 in a thread of its own: hashing a chunk overlaps copying the next one."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="hash")

    def __enter__(self) -> Hasher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is being hashed must not be unmapped meanwhile.
        self._threads.shutdown(wait=True, cancel_futures=True)

    def update(self, address: int, size: int) -> None:
        """Hash bytes, which must stay as they are until `settle` says so."""
        data = (ctypes.c_char * size).from_address(address)
        self._waiting.append(self._threads.submit(self._digest.update, data))

    def settle(self, most: int = 0) -> None:
        """Wait until at most `most` of the latest updates are still to be hashed."""
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def hexdigest(self) -> str:
        """The hash of everything."""
        self.settle()
        return self._digest.hexdigest()


def hash_bytes(source: HostSpan, length: int, watch: Watch) -> str:
    """SHA-256 of bytes in lower-case hexadecimal."""
    with Hasher() as hasher:
        for offset, size in chunks(length):
            watch.passed(0)
            source.prepare(offset, size)
            hasher.update(source.address + offset, size)
            hasher.settle(1)
        return hasher.hexdigest()


def copy_bytes(
    source: HostSpan, target: HostSpan, length: int, watch: Watch, *, hash: bool
) -> Moved:
    """Copy as memmove does, so spans may overlap; the hash is of what was read."""
    begin, end = source.address, target.address
    if begin < end + length and end < begin + length:
        digest = hash_bytes(source, length, watch) if hash else None
        _copy_overlapping(source, target, length, watch)
        return Moved(length, digest)

    def copy(offset: int, size: int) -> None:
        source.prepare(offset, size)
        target.prepare(offset, size)
        ctypes.memmove(end + offset, begin + offset, size)

    return copy_in_chunks(copy, begin, length, watch, hash=hash)


def copy_in_chunks(
    copy: Callable[[int, int], None], address: int, length: int, watch: Watch, *, hash: bool
) -> Moved:
    """Have `copy(offset, size)` copy everything in two threads at once.

    Args:
        copy: Copies bytes to or from `address + offset`; from any thread.
        address: Where in this process they lie before or afterwards, to be hashed.
        length: How many there are.
        watch: Told, and asked.
        hash: Whether to hash them.
    """
    lock = threading.Lock()
    landed: dict[int, int] = {}
    hashed = 0
    with Hasher() as hasher:

        def hash_landed(offset: int, size: int) -> None:
            """Chunks land in any order and are hashed in theirs."""
            nonlocal hashed
            with lock:
                landed[offset] = size
                while (ready := landed.pop(hashed, 0)) > 0:
                    hasher.update(address + hashed, ready)
                    hashed += ready

        def act(offset: int, size: int) -> bool:
            copy(offset, size)
            if hash:
                hash_landed(offset, size)
            return True

        done = in_two_threads(act, length, watch)
        return Moved(done, hasher.hexdigest() if hash else None)


def _copy_overlapping(source: HostSpan, target: HostSpan, length: int, watch: Watch) -> None:
    # In the order that overwrites nothing unread.
    backwards = source.address < target.address
    done = 0
    for offset, size in chunks(length):
        if backwards:
            offset = length - offset - size
        source.prepare(offset, size)
        target.prepare(offset, size)
        ctypes.memmove(target.address + offset, source.address + offset, size)
        done += size
        watch.passed(done)
