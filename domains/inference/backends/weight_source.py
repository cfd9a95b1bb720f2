"""Where a load takes bytes from: main memory where the front keeps them, else the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from domains.inference.backends.read_ahead import read_ahead
from domains.model.backends.arena import open_arena
from domains.model.backends.file_bytes import FileBytes, open_file
from domains.model.backends.model_plan import ModelPlan, WeightFile
from domains.values import CachedFile, CachedModel, ModelOrigin


class _InArena:
    """A file's bytes in the arena."""

    def __init__(self, kept: memoryview, *, lends: bool) -> None:
        self._kept = kept
        self._lends = lends

    @property
    def size_bytes(self) -> int:
        return len(self._kept)

    def read_into(self, offset: int, target: memoryview) -> int:
        piece = self._kept[offset : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)

    def announce(self, pieces: Sequence[tuple[int, int]]) -> None:
        return None

    def lend(self, offset: int, length: int) -> memoryview | None:
        return self._kept[offset : offset + length] if self._lends else None


@dataclass
class WeightSource:
    """Opens a model's files for one load; see `OpenBytes`.

    A file that main memory has as it is on disk now comes from there, any other from disk.

    Attributes:
        cached: What main memory has; None for nothing.
        lends: Whether bytes are lent out, from there or from what is read ahead of a file:
            what is made of them must not keep them.
    """

    cached: CachedModel | None = None
    lends: bool = False
    _used: set[ModelOrigin] = field(default_factory=set)

    @property
    def origin(self) -> ModelOrigin:
        """Where everything that was opened so far came from; DISK if only a part did."""
        only_cached = self._used == {ModelOrigin.CACHED}
        return ModelOrigin.CACHED if only_cached else ModelOrigin.DISK

    def has_all(self, plan: ModelPlan) -> bool:
        """Whether main memory has every weight file of a model as it is on disk now."""
        names = {file.name: file for network in plan.networks for file in network.files}
        return bool(names) and all(self._kept(file) is not None for file in names.values())

    @contextmanager
    def open(self, file: WeightFile) -> Iterator[FileBytes]:
        """A file's bytes, from where they are to be had fastest."""
        kept = self._kept(file)
        if kept is not None:
            self._used.add(ModelOrigin.CACHED)
            yield _InArena(kept, lends=self.lends)
            return
        self._used.add(ModelOrigin.DISK)
        with read_ahead(file) if self.lends else open_file(file) as opened:
            yield opened

    def _kept(self, file: WeightFile) -> memoryview | None:
        """A file's bytes in main memory; None where they are not those on disk."""
        if self.cached is None:
            return None
        found = next((one for one in self.cached.files if one.name == file.name), None)
        if found is None or not _is_of(found, file):
            return None
        try:
            arena = open_arena(self.cached.arena, self.cached.arena_bytes)
        except (OSError, ValueError):
            return None  # the front ended, or the system shares no memory
        return arena[found.offset_bytes : found.offset_bytes + found.size_bytes]


def _is_of(kept: CachedFile, file: WeightFile) -> bool:
    with file.open() as opened:
        state = os.fstat(opened.fileno())
    return (state.st_size, state.st_mtime_ns) == (kept.size_bytes, kept.modified_ns)
