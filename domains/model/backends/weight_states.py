"""Whether weight files are as they were found, without looking at anything else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from domains.model.types import FileState, Model

_LONGEST_SECONDS = 2.0


def unchanged(model: Model) -> bool:
    """Whether every weight file of a model has the size and the time of change that it was
    found with. Reads no file, so that it does not matter where a link leads by now: whoever
    opens one looks at that."""
    try:
        return all(_state(model, file.name) == file for file in model.weights)
    except OSError:
        return False


class WeightStates:
    """Looks in threads of its own: a disk that does not answer costs one, and the rest of the
    server none. Of models that lie there nothing is said until it answers: they count as
    unchanged, and whoever needs them finds out.

    Args:
        look: Looks at a model's files. May block.
        longest_seconds: How long to wait for a disk.
    """

    def __init__(
        self,
        look: Callable[[Model], bool] = unchanged,
        longest_seconds: float = _LONGEST_SECONDS,
    ) -> None:
        self._look, self._longest_seconds = look, longest_seconds
        self._late: set[Path] = set()

    async def unchanged(self, model: Model) -> bool:
        """Whether its files are as they were found, as far as the disk answers."""
        root = model.place.root
        if root in self._late:
            return True
        loop, answer = asyncio.get_running_loop(), asyncio.Event()
        found: list[bool] = []

        def hear(same: bool) -> None:
            found.append(same)
            self._late.discard(root)
            answer.set()

        def look() -> None:
            same = self._look(model)
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(hear, same)

        threading.Thread(target=look, name="model-weights", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._longest_seconds):
                await answer.wait()
        if found:
            return found[0]
        self._late.add(root)
        return True


def _state(model: Model, name: str) -> FileState:
    state = (model.path / name if name else model.path).stat()
    return FileState(name, state.st_size, state.st_mtime_ns)
