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
        retention=timedelta(hours=1),
        kept=8,
        clock=clock,
        changes=changes_of(clock),
    )
    yield made
    await made.stop(0)


def opened(sessions: Sessions, kind: SessionKind = SessionKind.GENERATION) -> Session:
    """A session that waits to work with the model."""

    async def prepare() -> SessionPlan:
        raise AssertionError("it is open already")

    async def work(session: Session) -> None:
        session.start(lambda: None)

    plan = SessionPlan(kind, "cpu:0", (Phase.QUEUED,), work, model_id="ink")
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


async def test_work_uses_the_models_beside_its_checkpoint_as_well(sessions: Sessions) -> None:
    """Whoever deletes or unloads a refiner waits, or is refused, as for a checkpoint."""

    async def prepare() -> SessionPlan:
        raise AssertionError("it is open already")

    async def work(session: Session) -> None:
        session.start(lambda: None)

    plan = SessionPlan(
        SessionKind.GENERATION,
        "cpu:0",
        (Phase.QUEUED,),
        work,
        model_id="ink",
        companion_ids=("fine", "lines"),
    )
    session = sessions.open(plan, work, SessionRequest(WorkOptions(), b"", prepare, "ann"))
    use = ModelUse(sessions)
    for model_id in ("ink", "fine", "lines"):
        assert use.open(model_id) == use.due(model_id, "cpu:0") == [session]
    assert use.due("fine", "cuda:0") == use.open("other") == []
