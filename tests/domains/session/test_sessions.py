"""The registry: idempotency, cancelling, ending, forgetting."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from domains.errors import Failure, Reason, Unavailable
from domains.session.core.about import Parent
from domains.session.core.entries import raise_for_end
from domains.session.core.plan import SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.snapshots import snapshot_of
from domains.session.errors import (
    RequestIdReused,
    SessionCancelled,
    SessionFailed,
    SessionNotFound,
)
from domains.session.records import KeptMessage
from domains.session.types import (
    Cancelled,
    Failed,
    SessionState,
    StepFinished,
    WorkOptions,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import (
    asked,
    finish,
    idle,
    nothing,
    picture,
    plan,
    started,
    submit,
    unprepared,
    until_started,
)

REQUEST_ID = "6f1c1c0e-3f5b-4b3e-9a52-0d6c5b1f2a10"


async def test_the_same_request_id_and_request_is_the_same_session(sessions: Sessions) -> None:
    options = WorkOptions(request_id=REQUEST_ID)
    session = submit(sessions, idle, options, digest=b"one")

    assert sessions.known(asked(nothing, options, digest=b"one")) is session
    assert sessions.known(asked(nothing, digest=b"one")) is None
    with pytest.raises(RequestIdReused):
        sessions.known(asked(nothing, options, digest=b"two"))
    assert sessions.known(asked(nothing, options, digest=b"two", owner="another")) is None


async def test_cancelling_twice_asks_the_worker_once_and_keeps_the_first_reason(
    sessions: Sessions,
) -> None:
    asked = []

    async def work(session: Session) -> None:
        session.start(lambda: asked.append(session.session_id))

    session = submit(sessions, work)
    await until_started(session)
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    first = snapshot_of(session)
    session.request_cancel(Reason.CLIENT_DISCONNECTED)
    session.cancel()

    assert first.state is SessionState.CANCELLING
    assert asked == [session.session_id]
    end = session.log.terminal
    assert isinstance(end, Cancelled)
    assert end.reason is Reason.CANCELLED_BY_CLIENT
    with pytest.raises(SessionCancelled):
        raise_for_end(session)


async def test_nothing_follows_the_end(sessions: Sessions) -> None:
    session = await started(sessions)
    session.fail(Failure(13, Reason.INTERNAL, "broken"))
    last = session.log.last_sequence

    session.record(StepFinished(0, 1, 2))
    session.finish_image(picture())
    session.cancel()
    finish(session)

    assert session.log.last_sequence == last
    assert isinstance(session.log.terminal, Failed)
    with pytest.raises(SessionFailed) as end:
        raise_for_end(session)
    assert end.value.reason is Reason.INTERNAL


async def test_final_sessions_are_forgotten_by_age_and_by_number(
    sessions: Sessions, clock: SteeredTime
) -> None:
    async def at_once(session: Session) -> None:
        finish(session)

    opened = []
    for _ in range(7):
        opened.append(submit(sessions, at_once))
        await asyncio.sleep(0.001)
    sessions.forget_expired()
    with pytest.raises(SessionNotFound):
        sessions.get(opened[1].session_id)
    assert sessions.get(opened[2].session_id) is opened[2]

    clock.move(61)
    sessions.forget_expired()
    with pytest.raises(SessionNotFound):
        sessions.get(opened[6].session_id)


async def test_what_was_not_taken_up_yet_is_left_to_the_next_server(sessions: Sessions) -> None:
    waiting = submit(sessions, idle)
    waiting.held = True
    sessions.unfinished.append((waiting, KeptMessage("message", b"")))
    await sessions.stop(0)
    assert (waiting.suspended, waiting.state) == (True, SessionState.QUEUED)


async def test_steps_and_items_are_counted_by_themselves(sessions: Sessions) -> None:
    async def at_once(session: Session) -> None:
        finish(session)

    alone = submit(sessions, at_once)
    items = []
    for number in range(7):
        request = SessionRequest(
            WorkOptions(), b"", unprepared, parent=Parent(alone.session_id, str(number))
        )
        items.append(sessions.open(plan(), at_once, request))
        await asyncio.sleep(0.001)
    sessions.forget_expired()
    assert sessions.get(alone.session_id) is alone
    assert sessions.children(alone.session_id) == items[2:]


async def test_stopping_refuses_new_work_and_ends_what_is_left(sessions: Sessions) -> None:
    running = await started(sessions)

    await sessions.stop(0)

    end = running.log.terminal
    assert isinstance(end, Cancelled)
    assert end.reason is Reason.SHUTTING_DOWN
    with pytest.raises(Unavailable):
        submit(sessions, idle)


async def test_a_session_that_ends_with_the_server_tells_its_callers_to_come_again(
    sessions: Sessions,
) -> None:
    """As every other call does then; nobody asked for it to be cancelled."""
    running, waiting = await started(sessions), submit(sessions, idle)

    await sessions.stop(0)

    for session in (running, waiting):
        with pytest.raises(Unavailable) as end:
            raise_for_end(session)
        assert end.value.reason is Reason.SHUTTING_DOWN
        assert end.value.retry_after


async def test_progress_grows_to_one(sessions: Sessions) -> None:
    session = await started(sessions)
    seen = [snapshot_of(session).progress]
    for index in (0, 1):
        for step in (1, 2):
            session.record(StepFinished(index, step, 2))
            seen.append(snapshot_of(session).progress)
    finish(session)
    seen.append(snapshot_of(session).progress)

    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[2] == 0.5
    assert seen[-2] < 1
    assert seen[-1] == 1


async def test_a_change_after_the_end_does_not_end_it_again(sessions: Sessions) -> None:
    ends: list[Session] = []
    made = replace(plan(), ended=ends.append)
    session = sessions.open(made, idle, SessionRequest(WorkOptions(), b"", unprepared))
    await until_started(session)
    session.complete()
    sessions.update(session, WorkOptions(tags=("seen",)))
    assert ends == [session]
