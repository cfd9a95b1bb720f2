"""Loops of domains: each round comes, whatever the one before did."""

from __future__ import annotations

import asyncio
import errno
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
    async with asyncio.timeout(30):
        assert [await rounds.get() for _ in range(3)] == [1, 2, 3]
    await background.stop()

    assert [(line["event"], line["work"]) for line in log_lines] == [
        ("background_work_failed", "looking"),
        ("background_work_recovered", "looking"),
    ]


async def test_what_fails_again_and_again_is_reported_once_each_time_it_changes(
    log_lines: list[dict[str, Any]],
) -> None:
    rounds = iter([OSError(errno.EMFILE, "no handles")] * 20 + [RuntimeError("else")] * 20)
    over = asyncio.Event()

    async def work() -> None:
        error = next(rounds, None)
        if error is not None:
            raise error
        over.set()

    background = Background()
    background.start([Loop("looking", 0, work)])
    async with asyncio.timeout(30):
        await over.wait()
    await background.stop()

    events = [line["event"] for line in log_lines]
    assert events == ["background_work_failed"] * 2 + ["background_work_recovered"]
    assert "open files" in log_lines[0]["why"]
    assert log_lines[1]["why"] == "RuntimeError: else"


async def test_a_round_that_waits_for_what_was_cancelled_ends_no_loop() -> None:
    rounds: asyncio.Queue[None] = asyncio.Queue()

    async def work() -> None:
        rounds.put_nowait(None)
        waited = asyncio.ensure_future(asyncio.sleep(3600))
        waited.cancel()
        await waited

    background = Background()
    background.start([Loop("looking", 0, work)])
    async with asyncio.timeout(30):
        for _ in range(3):
            await rounds.get()
    await background.stop()


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
    async with asyncio.timeout(30):
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
    async with asyncio.timeout(30):
        await first.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    await background.stop()

    assert rounds == 1
