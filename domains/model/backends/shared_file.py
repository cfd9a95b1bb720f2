"""A file that several threads read at once, each from a place of its own."""

from __future__ import annotations

import os
import threading
from io import FileIO

READS_AT_ONCE = hasattr(os, "preadv")
"""Whether such reads go on beside each other; elsewhere each waits for the one before."""


class SharedFile:
    """Reads from anywhere in a file, whatever other threads read.

    Args:
        file: Open for reading, and its user's to close.
    """

    def __init__(self, file: FileIO) -> None:
        self.file = file
        # Where there is no such read, a file has one position for all.
        self._positioning = threading.Lock()

    def read_into(self, offset: int, target: memoryview) -> int:
        """Copy what stands at `offset` into `target`; says how many bytes, none at the end.

        Raises:
            OSError: The machine cannot read it at the moment.
        """
        if READS_AT_ONCE:
            return os.preadv(self.file.fileno(), [target], offset)
        with self._positioning:
            self.file.seek(offset)
            return self.file.readinto(target) or 0
