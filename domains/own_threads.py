"""Calls that may block for as long as a disk does, in threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_own_thread(function: Callable[..., T], *args: Any) -> T:
    """As `asyncio.to_thread`, in a thread that is started for the call and ends with the
    process at the latest: the server's threads are few, and a disk that never answers would
    take one with each call. Where the system has no more threads it is one of those after all.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if answer.done():  # nobody waits any more
            return
        if error is None:
            answer.set_result(result)  # type: ignore[arg-type]
        else:
            answer.set_exception(error)

    def call() -> None:
        result, error = None, None
        try:
            result = function(*args)
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(tell, result, error)
        except RuntimeError:
            return  # the loop has ended

    try:
        threading.Thread(target=call, name="disk", daemon=True).start()
    except RuntimeError:
        return await asyncio.to_thread(function, *args)
    return await answer
