"""Work in threads that nothing waits for at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T], *, name: str) -> T:
    """As `asyncio.to_thread`, for work that may hang: on a disk that does not answer.

    Neither the loop nor the process waits for it when they end. A caller that is cancelled
    stops waiting; the work goes on, and nobody hears its result.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        if not result.done():
            act()

    def run() -> None:
        try:
            value = work()
        except Exception as error:
            outcome = partial(result.set_exception, error)
        else:
            outcome = partial(result.set_result, value)
        with suppress(RuntimeError):  # The loop has ended.
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await result
