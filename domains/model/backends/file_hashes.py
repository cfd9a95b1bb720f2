"""Reading files of models whole, for their SHA-256."""

from __future__ import annotations

import hashlib
import io
import os
import threading

from domains.model.backends.confined_files import ConfinedFiles
from domains.model.types import FileState
from domains.values import ModelPlace

_PIECE_BYTES = 32 << 20
_READ_BYTES = 1 << 20


class DiskHasher:
    """See `FileHasher`."""

    def open(self, place: ModelPlace, file: FileState) -> HashedFile:
        """See `FileHasher`."""
        return HashedFile(ConfinedFiles(place).open(file.name), file)


class HashedFile:
    """See `FileReading`.

    Args:
        file: Opened for reading; closed with this.
        found: How it was when it was found.
    """

    def __init__(self, file: io.FileIO, found: FileState) -> None:
        self._file = file
        self._found = found
        self._hash = hashlib.sha256()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._reading = threading.Lock()
        self._closing = False

    def read_on(self) -> bool:
        """See `FileReading`."""
        try:
            with self._reading:
                return self._piece()
        finally:
            if self._closing:  # nobody waited for this piece
                self._file.close()

    def _piece(self) -> bool:
        for _ in range(_PIECE_BYTES // _READ_BYTES):
            count = self._file.readinto(self._buffer)
            if not count:
                return False
            self._hash.update(self._buffer[:count])
        return True

    def sha256(self) -> str:
        """See `FileReading`."""
        state = os.fstat(self._file.fileno())
        if (state.st_size, state.st_mtime_ns) != self._found[1:]:
            return ""
        return self._hash.hexdigest()

    def close(self) -> None:
        """See `FileReading`."""
        self._closing = True
        if self._reading.acquire(blocking=False):
            self._reading.release()
            self._file.close()
