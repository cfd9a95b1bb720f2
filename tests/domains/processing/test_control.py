"""Pausing, resuming, cancelling, changing and deleting sessions, for those who may."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from domains.errors import InvalidArgument, Reason
from domains.processing.core.control import SessionControl
from domains.processing.errors import RunsToItsEnd, StateConflict
from domains.session.core.runner import SessionRunner
from domains.session.core.sessions import Sessions
from domains.session.errors import SessionNotFound
from domains.session.turns import Paused
from domains.session.types import (
    Cancelled,
    Completed,
    Priority,
    SessionKind,
    SessionState,
    WorkOptions,
)
from domains.session.views import SessionFilter
from tests.clocks import SteeredTime
from tests.domains.processing.conftest import ADMIN, MARY
from tests.domains.session.conftest import finish, idle, started, submit
from tests.domains.session.test_pausing import Steps, run, until
from tests.domains.session.test_queue import Device
from tests.domains.sessions import until_final


async def test_cancelling_a_final_session_changes_nothing(
    sessions: Sessions, control: SessionControl
) -> None:
    session = await started(sessions)
    finish(session)
    snapshot = control.cancel(session.session_id, ADMIN, "too late")
    assert snapshot.state is SessionState.COMPLETED
    assert isinstance(session.log.terminal, Completed)


async def test_a_cancellation_says_who_asked_and_why(
    sessions: Sessions, control: SessionControl
) -> None:
    device = Device()
    submit(sessions, device.work)
    await device.started.wait()
    waiting = submit(sessions, device.work, owner="mary")
    control.cancel(waiting.session_id, ADMIN, "not needed")
    end = waiting.log.terminal
    assert isinstance(end, Cancelled)
    assert (end.reason_text, end.cancelled_by) == ("not needed", "operator")
    device.release.set()


async def test_only_the_session_that_is_named_is_cancelled(
    sessions: Sessions, control: SessionControl
) -> None:
    """Whoever else waits or works, of the same client or of others."""
    device = Device()
    hers = submit(sessions, device.work, owner="mary")
    await device.started.wait()
    named = submit(sessions, device.work, owner="mary")
    others = submit(sessions, device.work, owner="john")

    control.cancel(named.session_id, MARY)
    with pytest.raises(SessionNotFound):
        control.cancel(others.session_id, MARY)
    device.release.set()

    for session in (hers, others):
        await until_final(session)
        assert session.state is SessionState.COMPLETED
    assert named.state is SessionState.CANCELLED


async def test_running_work_that_cannot_pause_is_refused_with_what_to_do(
    sessions: Sessions, control: SessionControl
) -> None:
    session = await started(sessions)
    with pytest.raises(RunsToItsEnd, match="cancel it, or let it end") as caught:
        control.pause(session.session_id, ADMIN)
    assert caught.value.reason is Reason.STATE_CONFLICT
    assert caught.value.metadata["kind"] == session.kind.value
    assert session.state is SessionState.RUNNING


async def test_running_work_that_can_is_paused_and_resumed(
    runner: SessionRunner, sessions: Sessions, control: SessionControl
) -> None:
    work = Steps()
    call = await run(runner, work)
    (session,) = sessions.all()
    session_id = session.session_id
    assert control.pause(session_id, ADMIN, "lunch").state is SessionState.PAUSING
    assert control.pause(session_id, ADMIN, "again").state is SessionState.PAUSING
    with pytest.raises(StateConflict):
        control.resume(session_id, ADMIN)
    work.done.release()
    await until(session, SessionState.PAUSED)
    assert control.pause(session_id, ADMIN).state is SessionState.PAUSED
    assert control.resume(session_id, ADMIN).state is SessionState.QUEUED
    work.done.release()
    assert Paused("lunch", "operator") in [event.event for event in await call]


async def test_what_is_final_or_being_cancelled_is_neither_paused_nor_resumed(
    sessions: Sessions, control: SessionControl
) -> None:
    session = await started(sessions)
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    assert session.state is SessionState.CANCELLING
    for _ in range(2):
        for verb in (control.pause, control.resume):
            with pytest.raises(StateConflict):
                verb(session.session_id, ADMIN)
        session.cancel()


async def test_only_final_sessions_can_be_deleted(
    sessions: Sessions, control: SessionControl
) -> None:
    session = await started(sessions)
    with pytest.raises(StateConflict):
        await control.delete(session.session_id, ADMIN)
    finish(session)
    await control.delete(session.session_id, ADMIN)
    with pytest.raises(SessionNotFound):
        sessions.get(session.session_id)


async def test_all_of_a_tag_or_all_but_the_running_ones_are_cancelled(
    sessions: Sessions, control: SessionControl
) -> None:
    device = Device()
    running = submit(sessions, device.work)
    await device.started.wait()
    tagged = submit(sessions, device.work, WorkOptions(tags=("old",)))
    others = [submit(sessions, device.work) for _ in range(2)]

    assert control.cancel_all(SessionFilter(tags=("old",)), ADMIN, "old") == 1
    assert tagged.state is SessionState.CANCELLED
    waiting = SessionFilter(states=frozenset({SessionState.QUEUED, SessionState.PAUSED}))
    assert control.cancel_all(waiting, ADMIN) == 2
    assert {session.state for session in others} == {SessionState.CANCELLED}
    assert running.state is SessionState.RUNNING
    generations = SessionFilter(kinds=frozenset({SessionKind.GENERATION}))
    assert control.cancel_all(generations, ADMIN) == 1
    assert control.cancel_all(generations, ADMIN) == 0  # it has taken note already
    device.release.set()


async def test_everything_is_not_cancelled_by_accident(control: SessionControl) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        control.cancel_all(SessionFilter(), ADMIN)
    assert refusal.value.reason is Reason.REQUIRED_FIELD_MISSING


async def test_nobody_cancels_what_is_not_theirs(
    sessions: Sessions, control: SessionControl
) -> None:
    theirs = submit(sessions, idle, owner="john")
    generations = SessionFilter(kinds=frozenset({SessionKind.GENERATION}))
    assert control.cancel_all(generations, MARY) == 0
    verbs: tuple[Callable[[], object], ...] = (
        lambda: control.cancel(theirs.session_id, MARY),
        lambda: control.pause(theirs.session_id, MARY),
        lambda: control.resume(theirs.session_id, MARY),
        lambda: control.update(theirs.session_id, MARY, WorkOptions(), ["tags"]),
        lambda: sessions.get(theirs.session_id, MARY),
    )
    for verb in verbs:
        with pytest.raises(SessionNotFound):
            verb()
    with pytest.raises(SessionNotFound):
        await control.delete(theirs.session_id, MARY)


@pytest.mark.parametrize("text", ["x" * 257, "a\nb"])
async def test_a_reason_is_one_short_line(
    sessions: Sessions, control: SessionControl, text: str
) -> None:
    session = await started(sessions)
    for act in (control.pause, control.cancel):
        with pytest.raises(InvalidArgument) as refusal:
            act(session.session_id, ADMIN, text)
        assert refusal.value.violations[0].field == "reason_text"
    assert session.state is SessionState.RUNNING


async def test_priority_tags_and_retention_change_and_nothing_else_does(
    sessions: Sessions, control: SessionControl, clock: SteeredTime
) -> None:
    device = Device()
    running = submit(sessions, device.work)
    await device.started.wait()
    first, second = (
        submit(sessions, device.work, WorkOptions(tags=("a",), request_id="id"))
        for _ in range(2)
    )
    wish = WorkOptions(priority=Priority.HIGH, tags=("b",), retention_seconds=600)
    shown = control.update(second.session_id, ADMIN, wish, ["priority", "tags"])
    assert (shown.options.tags, shown.options.retention_seconds) == (("b",), None)
    assert [second.queue_position, first.queue_position] == [1, 2]
    with pytest.raises(StateConflict):
        control.update(running.session_id, ADMIN, wish, ["priority", "tags"])
    assert running.options.tags == ()
    device.release.set()
    await until(running, SessionState.COMPLETED)
    control.update(running.session_id, ADMIN, wish, ["retention"])
    assert running.expire_time == clock.moment + timedelta(seconds=600)
    clock.move(599)
    sessions.forget_expired()
    assert sessions.get(running.session_id)
    control.update(running.session_id, ADMIN, WorkOptions(), ["retention"])
    sessions.forget_expired()
    with pytest.raises(SessionNotFound):
        sessions.get(running.session_id)


@pytest.mark.parametrize(
    ("wish", "fields", "reason", "field"),
    [
        (WorkOptions(), [], Reason.REQUIRED_FIELD_MISSING, "update_fields"),
        (WorkOptions(), ["request_id"], Reason.FIELDS_CONFLICT, "update_fields"),
        (
            WorkOptions(retention_seconds=1),
            ["retention"],
            Reason.FIELD_OUT_OF_RANGE,
            "options.retention",
        ),
        (WorkOptions(tags=("a\n",)), ["tags"], Reason.TEXT_INVALID, "options.tags[0]"),
    ],
)
async def test_a_change_that_breaks_a_rule_changes_nothing(
    sessions: Sessions,
    control: SessionControl,
    wish: WorkOptions,
    fields: list[str],
    reason: Reason,
    field: str,
) -> None:
    session = await started(sessions)
    with pytest.raises(InvalidArgument) as refusal:
        control.update(session.session_id, ADMIN, wish, fields)
    assert refusal.value.violations[0].field == field
    assert refusal.value.violations[0].reason is reason
    assert session.options == WorkOptions()
