"""Requests as sessions: found or begun, ended in every way, nothing left running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from domains.errors import Cancelled, Reason, Unavailable
from domains.session.core.plan import SessionPlan, SessionRequest, Work
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.snapshots import snapshot_of
from domains.session.errors import (
    RequestIdReused,
    SessionCancelled,
    SessionFailed,
    SessionNotFound,
)
from domains.session.types import (
    Completed,
    Failed,
    OnDisconnect,
    Outcome,
    SessionEvent,
    SessionState,
    TransferProgress,
    WorkOptions,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import asked, collect, nothing, plan
from tests.domains.sessions import until_final

REQUEST_ID = "6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a111"


async def follow(
    runner: SessionRunner,
    work: Work,
    options: WorkOptions | None = None,
    digest: bytes = b"",
) -> list[SessionEvent]:
    return await collect(runner.run(asked(work, options, digest=digest)))


class Endless:
    """Work that goes on until its coroutine is cancelled, and then cleans up."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cleaned = asyncio.Event()

    async def __call__(self, session: Session) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.cleaned.set()


async def test_what_it_comes_to_ends_the_session(runner: SessionRunner) -> None:
    async def work(session: Session) -> Outcome:
        session.record(TransferProgress("bytes", 1, 4))
        assert snapshot_of(session).progress == 0.25
        return Outcome(report="report")

    events = await follow(runner, work)

    assert isinstance(events[-1].event, Completed)
    assert events[-1].event.report == "report"


async def test_an_error_ends_the_session_and_the_call(
    runner: SessionRunner, sessions: Sessions
) -> None:
    async def work(session: Session) -> None:
        raise Unavailable("gone", reason=Reason.WORKER_LOST)

    with pytest.raises(SessionFailed) as end:
        await follow(runner, work)

    assert end.value.failure().code == Unavailable.code
    assert end.value.reason is Reason.WORKER_LOST
    assert isinstance(sessions.all()[0].log.terminal, Failed)


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError])
async def test_a_defect_ends_the_session_too(
    runner: SessionRunner, error: type[Exception]
) -> None:
    """Also one that looks like the end of the session's time."""

    async def work(session: Session) -> None:
        raise error

    with pytest.raises(SessionFailed) as end:
        await follow(runner, work)

    assert end.value.reason is Reason.INTERNAL


@pytest.mark.parametrize("way", ["cancel", "timeout", "disconnect"])
async def test_stopping_waits_for_the_clean_up(
    runner: SessionRunner, sessions: Sessions, way: str
) -> None:
    work = Endless()
    seconds = 0.05 if way == "timeout" else 60.0
    options = WorkOptions(run_timeout_seconds=seconds)
    call = asyncio.create_task(follow(runner, work, options))
    await work.begun.wait()
    if way == "cancel":
        sessions.all()[0].request_cancel(Reason.CANCELLED_BY_CLIENT)
    if way == "disconnect":
        call.cancel()
    expected = {
        "cancel": SessionCancelled,
        "timeout": SessionFailed,
        "disconnect": asyncio.CancelledError,
    }[way]
    with pytest.raises(expected) as end:
        await call
    if way == "timeout":
        assert isinstance(end.value, SessionFailed)
        assert end.value.reason is Reason.DEADLINE_EXPIRED
    await asyncio.wait_for(work.cleaned.wait(), 30)
    await until_final(sessions.all()[0])


async def test_work_with_a_stop_of_its_own_is_asked_and_not_interrupted(
    runner: SessionRunner, sessions: Sessions
) -> None:
    """As a worker that ends its step first; its time is its own affair."""
    asked_to_stop, begun = asyncio.Event(), asyncio.Event()

    async def work(session: Session) -> None:
        begun.set()
        await asked_to_stop.wait()
        raise Cancelled("It stopped.")

    options = WorkOptions(run_timeout_seconds=0.001)
    request = asked(work, options, stop=lambda session: asked_to_stop.set())
    call = asyncio.create_task(collect(runner.run(request)))
    await begun.wait()
    (session,) = sessions.all()
    await asyncio.sleep(0.01)
    assert session.state is SessionState.RUNNING
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)

    with pytest.raises(SessionCancelled):
        await call


async def test_work_that_is_stopped_between_its_start_and_its_first_step_never_begins(
    runner: SessionRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop of its own has nothing to stop yet: without more the request would be lost."""
    start = Session.start
    begun: list[Session] = []

    def start_and_cancel(session: Session, *ways: Callable[[], object] | None) -> None:
        start(session, *ways)  # type: ignore[arg-type]
        session.request_cancel(Reason.CANCELLED_BY_CLIENT)

    async def work(session: Session) -> None:
        begun.append(session)

    monkeypatch.setattr(Session, "start", start_and_cancel)
    with pytest.raises(SessionCancelled):
        await collect(runner.run(asked(work, stop=lambda session: None)))
    assert begun == []


async def test_work_that_is_paused_before_its_first_step_begins_when_it_is_resumed(
    runner: SessionRunner, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Session.start
    begun: list[Session] = []

    def start_and_pause_once(session: Session, *ways: Callable[[], object] | None) -> None:
        start(session, *ways)  # type: ignore[arg-type]
        if not begun:
            session.request_pause()

    async def work(session: Session) -> None:
        begun.append(session)

    monkeypatch.setattr(Session, "start", start_and_pause_once)
    request = asked(work, stop=lambda session: None, pause=lambda session: None)
    call = asyncio.create_task(collect(runner.run(request)))
    await asyncio.sleep(0)
    (session,) = sessions.all()
    async with asyncio.timeout(30):
        while session.state is not SessionState.PAUSED:
            await session.log.change().wait()
    assert begun == []
    begun.append(session)
    sessions.resume(session, "")
    await call
    assert len(begun) == 2


async def test_the_same_request_is_the_same_session(
    runner: SessionRunner, sessions: Sessions
) -> None:
    runs = 0

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1

    options = WorkOptions(request_id=REQUEST_ID, on_disconnect=OnDisconnect.DETACH)
    first = await follow(runner, work, options)
    again = await follow(runner, work, options)

    assert runs == 1
    assert first[0].session_id == again[0].session_id
    assert [event.existing for event in first] == [False, False]
    assert [event.existing for event in again] == [True, False]
    with pytest.raises(RequestIdReused):
        await follow(runner, work, options, digest=b"other")


async def test_a_request_that_comes_twice_at_once_is_one_session(
    runner: SessionRunner, sessions: Sessions
) -> None:
    """Also while the first is being prepared."""
    prepared = asyncio.Barrier(2)

    async def prepare() -> SessionPlan:
        await prepared.wait()
        return plan(work=nothing)

    options = WorkOptions(request_id=REQUEST_ID)
    request = SessionRequest(options, b"", prepare)
    streams = await asyncio.gather(*(collect(runner.run(request)) for _ in range(2)))

    assert len(sessions.all()) == 1
    assert sorted(events[0].existing for events in streams) == [False, True]


async def test_a_known_request_is_not_prepared_again(runner: SessionRunner) -> None:
    async def gone() -> SessionPlan:
        raise Unavailable("What it named is gone.", reason=Reason.DEVICE_LOST)

    options = WorkOptions(request_id=REQUEST_ID)
    await follow(runner, nothing, options)
    again = await collect(runner.run(SessionRequest(options, b"", gone)))

    assert isinstance(again[-1].event, Completed)


@pytest.mark.parametrize(
    ("on_disconnect", "state"),
    [
        (OnDisconnect.CANCEL, SessionState.CANCELLED),
        (OnDisconnect.DETACH, SessionState.RUNNING),
    ],
)
async def test_dropping_the_last_stream_does_what_the_options_say(
    runner: SessionRunner, sessions: Sessions, on_disconnect: OnDisconnect, state: SessionState
) -> None:
    work = Endless()
    options = WorkOptions(request_id=REQUEST_ID, on_disconnect=on_disconnect)
    streams = [runner.run(asked(work, options)) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    await work.begun.wait()
    (session,) = sessions.all()

    await streams[0].aclose()
    assert session.state is SessionState.RUNNING
    await streams[1].aclose()
    if on_disconnect is OnDisconnect.CANCEL:
        await until_final(session)
    assert session.state is state


async def test_a_session_is_kept_as_long_as_a_call_follows_it(
    runner: SessionRunner, sessions: Sessions, clock: SteeredTime
) -> None:
    """A slow client reads the last entry when others have long forgotten the session."""
    options = WorkOptions(request_id=REQUEST_ID)
    request = asked(nothing, options)
    events = runner.run(request)
    await anext(events)
    (session,) = sessions.all()
    await until_final(session)

    clock.move(61)
    sessions.forget_expired()
    assert sessions.get(session.session_id) is session
    assert sessions.known(request) is session
    assert isinstance((await collect(events))[-1].event, Completed)
    sessions.forget_expired()
    with pytest.raises(SessionNotFound):
        sessions.get(session.session_id)
    assert sessions.known(request) is None


async def test_followed_sessions_are_kept_beyond_the_number_of_kept_ones(
    runner: SessionRunner, sessions: Sessions
) -> None:
    streams = [runner.run(asked(nothing)) for _ in range(7)]
    for stream in streams:
        await anext(stream)
        await until_final(sessions.all()[-1])

    sessions.forget_expired()
    assert len(sessions.all()) == 7
    for stream in streams:
        await stream.aclose()
    sessions.forget_expired()
    assert len(sessions.all()) == 5


async def test_ending_the_queue_ends_what_runs(
    runner: SessionRunner, sessions: Sessions
) -> None:
    work = Endless()
    call = asyncio.create_task(follow(runner, work))
    await work.begun.wait()
    await sessions.queue("cpu:0").stop()

    assert work.cleaned.is_set()
    with pytest.raises(SessionCancelled):
        await asyncio.wait_for(call, 30)
