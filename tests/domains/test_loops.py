"""What others rely on is begun again when it fails."""

from __future__ import annotations

import asyncio
import logging

import pytest

from domains import loops
from domains.loops import kept


async def test_what_fails_is_reported_and_begun_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "_PAUSE_SECONDS", 0)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise MemoryError

    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(kept("the queue", work), 30)
    assert begun == 3
    assert [record.getMessage() for record in caplog.records] == [
        "the queue failed and is begun again"
    ] * 2


async def test_a_cancellation_ends_it() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(kept("the queue", work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
