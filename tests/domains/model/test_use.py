"""Which sessions count as users of a model, for whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from domains.model.core.use import ModelUse
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import Phase, SessionKind, SessionState, WorkOptions
from server.errors import describe_failure
from tests.clocks import SteeredTime
from tests.domains.sessions import changes_of


@pytest.fixture
async def sessions() -> AsyncIterator[Sessions]:
    clock = SteeredTime().clock
    made = Sessions(
        describe=describe_failure,
        queue_length=8,
        slice_seconds=30.0,
        retention=timedelta(hours=1),
        kept=8,
        clock=clock,
        changes=changes_of(clock),
    )
    yield made
    await made.stop(0)


def opened(
    sessions: Sessions,
    kind: SessionKind = SessionKind.GENERATION,
    companion_ids: tuple[str, ...] = (),
) -> Session:
    """A session that waits to work with the model."""

    async def prepare() -> SessionPlan:
        raise AssertionError("it is open already")

    async def work(session: Session) -> None:
        session.start(lambda: None)

    plan = SessionPlan(
        kind, "cpu:0", (Phase.QUEUED,), work, model_id="ink", companion_ids=companion_ids
    )
    return sessions.open(plan, work, SessionRequest(WorkOptions(), b"", prepare, "ann"))


async def test_a_paused_session_keeps_a_model_on_disk_and_lets_it_go_from_devices(
    sessions: Sessions,
) -> None:
    use, waiting, paused = ModelUse(sessions), opened(sessions), opened(sessions)
    sessions.pause(paused, "lunch", "ann")
    opened(sessions, SessionKind.MODEL_UNLOAD)

    assert paused.state is SessionState.PAUSED
    assert use.open("ink") == [waiting, paused]
    assert use.due("ink") == [waiting]
    assert use.running("ink") == use.open("other") == []

    paused.cancel()
    assert use.open("ink") == [waiting]


async def test_what_works_beside_a_model_is_used_too(sessions: Sessions) -> None:
    """A LoRA is not deleted under a generation that waits for its turn."""
    use = ModelUse(sessions)
    waiting = opened(sessions, companion_ids=("line-art", "vae"))

    assert use.open("line-art") == use.due("vae") == [waiting]
    waiting.cancel()
    assert use.open("line-art") == []
