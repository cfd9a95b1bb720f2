"""Coroutines as sessions: their ends, and that each leaves nothing running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from domains.errors import Failure, Reason, Unavailable
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.tasks import Tasks
from domains.session.errors import RequestIdReused, SessionCancelled, SessionFailed
from domains.session.types import (
    Completed,
    Failed,
    OnDisconnect,
    SessionEvent,
    SessionOptions,
    TransferProgress,
)
from tests.domains.session.conftest import plan

REQUEST_ID = "6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a111"


def describe(error: BaseException) -> Failure:
    return Failure(14, getattr(error, "reason", Reason.INTERNAL), str(error))


@pytest.fixture
def tasks(sessions: Sessions) -> Tasks:
    return Tasks(sessions, describe=describe)


async def follow(
    tasks: Tasks,
    work: Callable[[Session], Awaitable[object]],
    options: SessionOptions | None = None,
    digest: bytes = b"",
) -> list[SessionEvent]:
    wanted = plan(options, digest=digest)
    return [event async for event in tasks.run(replace(wanted, seeds=(), steps=0), work)]


async def test_what_it_returns_is_the_report(tasks: Tasks) -> None:
    async def work(session: Session) -> object:
        session.record(TransferProgress("bytes", 1, 4))
        assert session.snapshot().progress == 0.25
        return "report"

    events = await follow(tasks, work)

    assert isinstance(events[-1].event, Completed)
    assert events[-1].event.report == "report"


async def test_an_error_ends_the_session_and_the_call(tasks: Tasks, sessions: Sessions) -> None:
    async def work(session: Session) -> object:
        raise Unavailable("gone", reason=Reason.WORKER_LOST)

    with pytest.raises(SessionFailed) as end:
        await follow(tasks, work)

    assert end.value.reason is Reason.WORKER_LOST
    assert isinstance(sessions.all()[0].log.terminal, Failed)


async def test_a_defect_ends_the_session_too(tasks: Tasks) -> None:
    async def work(session: Session) -> object:
        raise ZeroDivisionError

    with pytest.raises(SessionFailed) as end:
        await follow(tasks, work)

    assert end.value.reason is Reason.INTERNAL


@pytest.mark.parametrize("way", ["cancel", "timeout", "disconnect"])
async def test_stopping_waits_for_the_clean_up(
    tasks: Tasks, sessions: Sessions, way: str
) -> None:
    cleaned = asyncio.Event()
    begun = asyncio.Event()

    async def work(session: Session) -> object:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()
        return None

    seconds = 0.05 if way == "timeout" else 60.0
    call = asyncio.create_task(follow(tasks, work, SessionOptions(timeout_seconds=seconds)))
    await begun.wait()
    if way == "cancel":
        sessions.all()[0].request_cancel(Reason.CANCELLED_BY_CLIENT)
    if way == "disconnect":
        call.cancel()
    expected = {
        "cancel": SessionCancelled,
        "timeout": SessionFailed,
        "disconnect": asyncio.CancelledError,
    }[way]
    with pytest.raises(expected):
        await call
    await asyncio.wait_for(cleaned.wait(), 5)
    async with asyncio.timeout(5):
        while not (log := sessions.all()[0].log).terminal:
            await log.change().wait()


async def test_the_same_request_is_the_same_session(tasks: Tasks, sessions: Sessions) -> None:
    runs = 0

    async def work(session: Session) -> object:
        nonlocal runs
        runs += 1
        return None

    options = SessionOptions(request_id=REQUEST_ID, on_disconnect=OnDisconnect.DETACH)
    first = await follow(tasks, work, options)
    again = await follow(tasks, work, options)

    assert runs == 1
    assert first[0].session_id == again[0].session_id
    assert again[0].existing
    with pytest.raises(RequestIdReused):
        await follow(tasks, work, options, digest=b"other")


async def test_ending_the_queue_ends_what_runs(tasks: Tasks, sessions: Sessions) -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def work(session: Session) -> object:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return None

    call = asyncio.create_task(follow(tasks, work))
    await begun.wait()
    await sessions.queue("cpu:0").stop()

    assert ended.is_set()
    with pytest.raises(SessionCancelled):
        await asyncio.wait_for(call, 5)
