"""Loops of domains: each round comes, whatever the one before did."""

from __future__ import annotations

import asyncio
from typing import Any

from domains.loops import Loop
from server.background import Background


async def test_a_round_that_raises_is_reported_and_the_next_one_comes(
    log_lines: list[dict[str, Any]],
) -> None:
    rounds: asyncio.Queue[int] = asyncio.Queue()
    count = 0

    async def work() -> None:
        nonlocal count
        count += 1
        rounds.put_nowait(count)
        if count == 1:
            raise RuntimeError("the disk is away")

    background = Background()
    background.start([Loop("looking", 0, work)])
    async with asyncio.timeout(10):
        assert [await rounds.get() for _ in range(3)] == [1, 2, 3]
    await background.stop()

    (line,) = log_lines
    assert (line["event"], line["work"]) == ("background_work_failed", "looking")


async def test_a_loop_that_waits_keeps_no_other_waiting_and_ends_with_all() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    others: asyncio.Queue[None] = asyncio.Queue()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def go_on() -> None:
        others.put_nowait(None)

    background = Background()
    background.start([Loop("waiting", 0, wait)])
    background.start([Loop("other", 0, go_on)])
    async with asyncio.timeout(10):
        await begun.wait()
        for _ in range(3):
            await others.get()
        await background.stop()

    assert ended.is_set()
    await background.stop()


async def test_between_rounds_it_rests() -> None:
    rounds = 0
    first = asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        first.set()

    background = Background()
    background.start([Loop("resting", 3600, work)])
    async with asyncio.timeout(10):
        await first.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    await background.stop()

    assert rounds == 1
