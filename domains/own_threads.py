"""Calls that may block for as long as a disk does, in threads of their own."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

_Call: TypeAlias = Callable[[], Callable[[], object]]
"""Does what blocks, and returns what tells whoever waits."""

_lock = threading.Lock()
_waiting: list[queue.SimpleQueue[_Call]] = []
"""The thread that stays for the next call, by what it gets its calls from: to start one takes
as long as a small look at a disk."""


async def in_own_thread(function: Callable[..., T], *args: Any) -> T:
    """As `asyncio.to_thread`, in a thread that does nothing else meanwhile and ends with the
    process at the latest: the server's threads are few, and a disk that never answers would
    take one with each call. Where the system has no more threads it is one of those after all.

    Raises:
        RuntimeError: There is none of those either.
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

    def call() -> Callable[[], object]:
        result, error = None, None
        try:
            result = function(*args)
        except BaseException as raised:
            error = raised
        return lambda: loop.call_soon_threadsafe(tell, result, error)

    try:
        _begin(call)
    except RuntimeError:
        return await asyncio.to_thread(function, *args)
    return await answer


def _begin(call: _Call) -> None:
    with _lock:
        calls = _waiting.pop() if _waiting else None
    if calls is None:
        calls = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(calls,), name="disk", daemon=True).start()
    calls.put(call)


def _serve(calls: queue.SimpleQueue[_Call]) -> None:
    stays = True
    while stays:
        told = calls.get()()
        with _lock:  # before anybody hears, who may ask again
            stays = not _waiting
            if stays:
                _waiting.append(calls)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            told()
        del told  # and what the call came to with it
