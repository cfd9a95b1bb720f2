"""Calls in threads of their own."""

from __future__ import annotations

import asyncio
import threading
import weakref

import pytest

from domains.own_threads import in_own_thread
from tests.scarcity import NoThreads


async def test_what_a_call_comes_to_comes_back() -> None:
    assert await in_own_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_own_thread(divmod, 7, 0)


async def test_calls_that_hang_take_no_thread_from_others() -> None:
    hang = threading.Event()
    try:
        for _ in range(40):  # more than the server has
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(in_own_thread(hang.wait, 60), 0.001)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(divmod, 7, 2) == (3, 1)
    finally:
        hang.set()


async def test_without_threads_those_that_are_there_do_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await asyncio.to_thread(divmod, 7, 2)  # there is one now
    threads = NoThreads(monkeypatch)
    assert await in_own_thread(divmod, 7, 2) == (3, 1)
    assert threads.refused >= 1


async def test_one_thread_stays_for_the_next_call_and_holds_nothing_of_the_last() -> None:
    class Found:
        pass

    first = await in_own_thread(threading.get_ident)
    found = await in_own_thread(Found)
    assert await in_own_thread(threading.get_ident) == first
    gone = weakref.ref(found)
    del found
    assert gone() is None
