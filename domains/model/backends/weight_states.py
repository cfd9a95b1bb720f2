"""Whether weight files are as they were found, without looking at anything else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from pathlib import Path

from domains.model.types import FileState
from domains.own_threads import in_own_thread
from domains.values import ModelPlace

_LONGEST_SECONDS = 2.0
LATELY_SECONDS = 0.05
"""How long ago a look may have begun that stands for another one: work that is accepted and
begins at once needs three, and each takes a millisecond of a picture."""


def unchanged(place: ModelPlace, files: Collection[FileState]) -> bool:
    """Whether each of these files of a model has the size and the time of change that it was
    found with. Reads no file, so that it does not matter where a link leads by now: whoever
    opens one looks at that."""
    try:
        return all(_state(place.path, file.name) == file for file in files)
    except OSError:
        return False


class WeightStates:
    """See the port `FileStates`. Belongs to one event loop.

    A disk that does not answer costs a thread, and the rest of the server none. Of models that
    lie there nothing is said until it answers.

    Args:
        look: Looks at a model's files. May block.
        longest_seconds: How long to wait for a disk.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        look: Callable[[ModelPlace, Collection[FileState]], bool] = unchanged,
        longest_seconds: float = _LONGEST_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._longest_seconds = look, longest_seconds
        self._monotonic = monotonic
        self._late: set[Path] = set()
        # What was seen unchanged, and when that look began.
        self._seen: dict[ModelPlace, tuple[frozenset[FileState], float]] = {}

    async def unchanged(self, place: ModelPlace, files: Collection[FileState]) -> bool:
        self._seen.pop(place, None)
        if place.root in self._late:
            return True
        began = self._monotonic()
        same = await self._asked(place, files)
        if same:
            self._seen = {k: one for k, one in self._seen.items() if self._lately(one[1])}
            self._seen[place] = frozenset(files), began
        return same is not False

    async def unchanged_lately(self, place: ModelPlace, files: Collection[FileState]) -> bool:
        seen = self._seen.get(place)
        if seen is not None and self._lately(seen[1]) and seen[0].issuperset(files):
            return True
        return await self.unchanged(place, files)

    def _lately(self, moment: float) -> bool:
        return self._monotonic() - moment < LATELY_SECONDS

    async def _asked(self, place: ModelPlace, files: Collection[FileState]) -> bool | None:
        """What a look finds; None where the disk does not answer, or no thread is left."""
        look = asyncio.ensure_future(in_own_thread(self._look, place, files))
        done, _ = await asyncio.wait({look}, timeout=self._longest_seconds)
        if not done:
            self._late.add(place.root)
            look.add_done_callback(lambda _: self._late.discard(place.root))
            return None
        with contextlib.suppress(RuntimeError):
            return look.result()
        return None


def _state(path: Path, name: str) -> FileState:
    state = (path / name if name else path).stat()
    return FileState(name, state.st_size, state.st_mtime_ns)
