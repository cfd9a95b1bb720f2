"""The bytes of a weight file, wherever they lie: on disk, or kept in memory by someone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from typing import Protocol

from domains.model.backends.model_plan import WeightFile


class FileBytes(Protocol):
    """One file's bytes, as long as it is open."""

    @property
    def size_bytes(self) -> int:
        """How many there are."""
        ...

    def read_into(self, offset: int, target: memoryview) -> int:
        """Copy what stands at `offset` into `target`; says how many bytes, none at the end.

        Raises:
            OSError: The machine cannot read it at the moment.
        """
        ...

    def announce(self, pieces: Sequence[tuple[int, int]]) -> None:
        """Say what will be asked for next: offset and length of each, in that order."""
        ...

    def lend(self, offset: int, length: int) -> memoryview | None:
        """What stands at `offset` without a copy, to be read until the next is asked for; None
        where it has to be read."""
        ...


OpenBytes = Callable[[WeightFile], AbstractContextManager[FileBytes]]
"""Opens a weight file; raises as `ConfinedFiles.open`."""


class _OnDisk:
    def __init__(self, file: FileIO) -> None:
        self._file = file

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def read_into(self, offset: int, target: memoryview) -> int:
        self._file.seek(offset)
        return self._file.readinto(target) or 0

    def announce(self, pieces: Sequence[tuple[int, int]]) -> None:
        return None

    def lend(self, offset: int, length: int) -> memoryview | None:
        return None


@contextmanager
def open_file(file: WeightFile) -> Iterator[FileBytes]:
    """The file as it lies on disk; see `OpenBytes`."""
    with file.open() as opened:
        yield _OnDisk(opened)
