"""Why a call was dropped, by the time that was left to it."""

from __future__ import annotations

import asyncio

import pytest

from deviceops.v1 import device_pb2, session_pb2
from domains.clients import Caller, Role, calling
from domains.errors import DeadlineExceeded, Reason
from domains.session.convert import SessionConverter, SessionStreams, Starters
from domains.session.core.entries import raise_for_end
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import Cancelled
from tests.domains.session.conftest import asked
from tests.domains.sessions import until_final


class Call:
    """A call with so much time left, which the test moves."""

    def __init__(self, left: float | None) -> None:
        self.left = left

    def time_remaining(self) -> float | None:
        return self.left


@pytest.mark.parametrize(
    ("whole", "left", "reason"),
    [
        (300.0, 0.0, Reason.DEADLINE_EXPIRED),
        # Clients round their deadline up and end the call at the true one.
        (301.0, 1.0, Reason.DEADLINE_EXPIRED),
        (12.4, 0.06, Reason.DEADLINE_EXPIRED),
        (300.0, 30.0, Reason.CLIENT_DISCONNECTED),
        (12.4, 1.0, Reason.CLIENT_DISCONNECTED),
        (None, None, Reason.CLIENT_DISCONNECTED),
    ],
)
async def test_a_dropped_calls_session_says_why(
    runner: SessionRunner,
    sessions: Sessions,
    whole: float | None,
    left: float | None,
    reason: Reason,
) -> None:
    async def work(session: Session) -> None:
        await asyncio.Event().wait()

    call = Call(whole)
    streams = SessionStreams(runner, SessionConverter({}), Starters())
    responses = streams.run(
        asked(work),
        call,
        device_pb2.RestartWorkerResponse,
        session_pb2.DeliveryOptions(),
    )
    await anext(responses)
    call.left = left
    await responses.aclose()

    (session,) = sessions.all()
    await until_final(session)
    assert isinstance(session.log.terminal, Cancelled)
    assert session.log.terminal.reason is reason


async def test_another_call_that_follows_hears_of_the_deadline(
    runner: SessionRunner, sessions: Sessions
) -> None:
    async def work(session: Session) -> None:
        await asyncio.Event().wait()

    events = runner.run(asked(work), expired=lambda: True)
    await anext(events)
    await events.aclose()

    (session,) = sessions.all()
    await until_final(session)
    with pytest.raises(DeadlineExceeded):
        raise_for_end(session)


async def test_a_session_is_of_the_client_that_its_call_names(
    runner: SessionRunner, sessions: Sessions
) -> None:
    async def work(session: Session) -> None:
        return None

    streams = SessionStreams(runner, SessionConverter({}), Starters())
    call = Call(None)
    with calling(Caller("orchestrator", Role.RUN)):
        responses = streams.run(
            asked(work),
            call,
            device_pb2.RestartWorkerResponse,
            session_pb2.DeliveryOptions(),
        )
        async for _ in responses:
            pass
    assert [session.owner for session in sessions.all()] == ["orchestrator"]
