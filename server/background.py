"""Runs the loops of all domains and reports what goes wrong in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from domains.loops import Loop
from domains.shortages import shortage_of

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
    """Round after round; what keeps failing in the same way is reported once."""
    failing = ""
    while True:
        try:
            await loop.work()
        except (Exception, asyncio.CancelledError) as error:
            if _is_ours(error):
                raise
            failing = _report(loop, error, failing)
        else:
            if failing:
                _log.info("background_work_recovered", work=loop.name)
            failing = ""
        await asyncio.sleep(loop.interval)


def _is_ours(error: BaseException) -> bool:
    """Whether it ends the loop: a cancellation of this task, and not of what it waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and bool(task and task.cancelling())


def _report(loop: Loop, error: BaseException, before: str) -> str:
    """Report a failed round unless the one before failed so too; how it failed."""
    failure = f"{type(error).__name__}: {error}"
    if failure != before:
        shortage = shortage_of(error)
        _log.error(
            "background_work_failed",
            work=loop.name,
            why=shortage.message if shortage else failure,
            exc_info=None if shortage else error,
        )
    return failure
