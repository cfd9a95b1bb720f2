"""What is done beside each other in several places, so that one that does not answer keeps none
of the others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, KeysView
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_PATIENCE_SECONDS = 1.0


class Errands(Generic[T]):
    """At most one is under way in each place; what takes long is heard of in a later round."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}

    @property
    def under_way(self) -> KeysView[str]:
        """The places where one is."""
        return self._tasks.keys()

    def begin(self, place: str, work: Coroutine[Any, Any, T]) -> None:
        """Begin one where none is under way."""
        self._tasks[place] = asyncio.create_task(work)

    async def ended(self) -> list[T]:
        """Wait a moment for all of them; what those came to that have ended by then.

        Raises:
            Exception: What one of these raised.
        """
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=_PATIENCE_SECONDS)
        over = {place: task for place, task in self._tasks.items() if task.done()}
        for place in over:
            del self._tasks[place]
        return await asyncio.gather(*over.values())
