"""Runs the loops of all domains and reports what goes wrong in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from domains.loops import Loop

_log = structlog.get_logger("deviceops.background")


class Background:
    """Every loop in a task of its own, so that none keeps another waiting."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, loops: Iterable[Loop]) -> None:
        """Begin the first round of each."""
        for loop in loops:
            self._tasks.append(asyncio.create_task(_repeat(loop), name=loop.name))

    async def stop(self) -> None:
        """End all of them, wherever they are. Calling it twice is harmless."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _repeat(loop: Loop) -> None:
    while True:
        try:
            await loop.work()
        except Exception:
            _log.exception("background_work_failed", work=loop.name)
        await asyncio.sleep(loop.interval)
