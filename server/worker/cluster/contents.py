"""What files hold: the same on two machines, or not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

_PIECE_BYTES = 4 << 20

State = tuple[int, int, int]
"""A file's bytes, the nanoseconds at which it was changed, and its number on its disk: the same
for as long as nobody wrote to it or put another one in its place."""


def state_of(path: str) -> State | None:
    """How a file is now; None where there is none that can be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def sha256_of(path: str, go_on: Callable[[], None]) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits; empty where it cannot be read.

    Args:
        path: Which.
        go_on: Called after each piece of some megabytes.
    """
    found = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE_BYTES):
                found.update(piece)
                go_on()
    except OSError:
        return ""
    return found.hexdigest()


class Hashing:
    """Hashes files in a thread of its own, while others ask how far it is."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "hashing")
        self._found: Future[list[str]] | None = None
        self._wanted = 0

    def begin(self, paths: Sequence[str]) -> None:
        """Hash these, and no longer those before."""
        self._wanted += 1
        self._found = self._thread.submit(self._hash, tuple(paths), self._wanted)

    def found(self) -> list[str] | None:
        """What they have, in their order, "" where one cannot be read; None: not yet."""
        if self._found is None or not self._found.done():
            return None
        return self._found.result()

    def _hash(self, paths: Sequence[str], number: int) -> list[str]:
        def go_on() -> None:
            if number != self._wanted:
                raise InterruptedError  # which reads as a file that cannot be read

        return [sha256_of(path, go_on) for path in paths]
