"""Sessions that other sessions begin: waited for where there is no room, paused together."""

from __future__ import annotations

import asyncio

import pytest

from domains.errors import Unavailable
from domains.session.core import children
from domains.session.core.children import Children, paused
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.turns import Paused
from domains.session.types import SessionState
from tests.domains.session.conftest import asked, idle, submit
from tests.domains.session.test_pausing import Steps, run, until
from tests.domains.session.test_queue import Device
from tests.domains.sessions import until_final


async def test_a_full_queue_is_waited_for(
    sessions: Sessions,
    runner: SessionRunner,
    reader: SessionReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(children, "_ROOM_SECONDS", 0.01)
    device, tries = Device(), 0
    submit(sessions, device.work)
    await device.started.wait()
    for _ in range(3):
        submit(sessions, device.work)

    async def begin() -> Session:
        nonlocal tries
        tries += 1
        return await runner.begin(asked(device.work))

    family = Children(sessions, runner, reader)
    waiting = asyncio.create_task(family.begun(begin))
    while tries < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert not waiting.done()
    device.release.set()
    child = await waiting
    await until_final(child)
    assert child.state is SessionState.COMPLETED


async def test_what_else_forbids_it_is_told_at_once(
    sessions: Sessions, runner: SessionRunner, reader: SessionReader
) -> None:
    async def begin() -> Session:
        raise Unavailable("no device")

    with pytest.raises(Unavailable):
        await Children(sessions, runner, reader).begun(begin)


async def test_those_pause_that_can_and_others_are_waited_for(
    sessions: Sessions, runner: SessionRunner
) -> None:
    work = Steps()
    call = await run(runner, work)
    (running,) = sessions.all()
    waiting = submit(sessions, idle)
    assert not paused(sessions, [running, waiting], "why", "mary")
    assert waiting.state is SessionState.PAUSED
    assert waiting.log.entry(waiting.log.last_sequence).event == Paused("why", "mary")
    assert running.state is SessionState.PAUSING
    work.done.release()
    await until(running, SessionState.PAUSED)
    assert paused(sessions, [running, waiting], "why")
    assert not paused(sessions, [running, None], "one is being begun")
    for session in (running, waiting):
        session.request_cancel(children.Reason.CANCELLED_BY_CLIENT)
    await asyncio.gather(call, return_exceptions=True)


async def test_running_work_that_cannot_pause_is_left_alone(sessions: Sessions) -> None:
    device = Device()
    running = submit(sessions, device.work)
    await device.started.wait()
    assert not paused(sessions, [running], "why")
    assert running.state is SessionState.RUNNING
    device.release.set()
    await until_final(running)
