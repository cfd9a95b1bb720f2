"""Listing, controlling and deleting sessions."""

from __future__ import annotations

import asyncio

import pytest

from domains.errors import InvalidArgument, Unimplemented
from domains.processing.core import SessionControl
from domains.processing.errors import StateConflict
from domains.processing.types import SessionFilter
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.errors import SessionNotFound
from domains.session.types import Completed, SessionOptions, SessionState
from tests.domains.session.conftest import clock, finish, sessions, started, submit

__all__ = ["clock", "sessions"]


async def test_cancelling_a_final_session_changes_nothing(sessions: Sessions) -> None:
    session = await started(sessions)
    finish(session)

    snapshot = SessionControl(sessions).cancel(session.session_id)

    assert snapshot.state is SessionState.COMPLETED
    assert isinstance(session.log.terminal, Completed)


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_pausing_is_refused_by_state_first_and_by_version_second(
    sessions: Sessions, verb: str
) -> None:
    session = await started(sessions)
    act = getattr(SessionControl(sessions), verb)
    with pytest.raises(Unimplemented):
        act(session.session_id)
    finish(session)
    with pytest.raises(StateConflict):
        act(session.session_id)


async def test_lists_are_newest_first_filtered_and_paged(sessions: Sessions) -> None:
    async def at_once(session: Session) -> None:
        finish(session)

    opened = [
        submit(sessions, at_once, SessionOptions(tags=(("odd",) if k % 2 else ())))
        for k in range(3)
    ]
    await asyncio.sleep(0.01)

    control = SessionControl(sessions)
    newest = control.list(SessionFilter(), page_size=2, page_token="")
    rest = control.list(SessionFilter(), page_size=2, page_token=newest.next_page_token)
    odd = control.list(SessionFilter(tags=("odd",)), page_size=0, page_token="")
    running = control.list(
        SessionFilter(states=frozenset({SessionState.RUNNING})), page_size=0, page_token=""
    )

    ids = [snapshot.session_id for snapshot in (*newest.items, *rest.items)]
    assert ids == [session.session_id for session in reversed(opened)]
    assert [snapshot.session_id for snapshot in odd.items] == [opened[1].session_id]
    assert running.items == ()
    with pytest.raises(InvalidArgument):
        control.list(
            SessionFilter(tags=("odd",)), page_size=2, page_token=newest.next_page_token
        )


async def test_only_final_sessions_can_be_deleted(sessions: Sessions) -> None:
    session = await started(sessions)
    with pytest.raises(StateConflict):
        SessionControl(sessions).delete(session.session_id)
    finish(session)
    SessionControl(sessions).delete(session.session_id)
    with pytest.raises(SessionNotFound):
        sessions.get(session.session_id)
