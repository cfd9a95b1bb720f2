"""Work that must come to its end although its caller is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def finished(work: Awaitable[T]) -> T:
    """The result of `work`, which is never broken off; a cancellation is raised after it."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not task.cancelled():
            task.exception()  # It is known; nobody waits for it any more.
        raise asyncio.CancelledError
    return task.result()


def finishing(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The function, whose work is `finished`."""

    @wraps(function)
    async def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        return await finished(function(*args, **kwargs))

    return whole


async def unstoppable(work: Awaitable[T]) -> T:
    """The result of `work`, which is never broken off: a cancellation comes too late."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and return when it is over; what it raised is of no interest."""
    task.cancel()
    await finished(asyncio.gather(task, return_exceptions=True))
