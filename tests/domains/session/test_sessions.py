"""The registry: idempotency, streams, cancelling, forgetting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from domains.errors import Failure, Reason, Unavailable
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.errors import (
    EventsExpired,
    RequestIdReused,
    SessionCancelled,
    SessionFailed,
    SessionNotFound,
)
from domains.session.types import (
    Accepted,
    Cancelled,
    Completed,
    Failed,
    Heartbeat,
    ImageChunk,
    ImageFinished,
    OnDisconnect,
    Phase,
    PhaseStarted,
    Preview,
    QueueMoved,
    SessionEvent,
    SessionOptions,
    SessionState,
    StepFinished,
    TransferProgress,
)
from tests.domains.session.conftest import Clock, finish, picture, plan

REQUEST_ID = "6f1c1c0e-3f5b-4b3e-9a52-0d6c5b1f2a10"


async def idle(session: Session) -> None:
    """Work that starts and does nothing by itself."""
    session.start(lambda: None)


async def started(sessions: Sessions, options: SessionOptions | None = None) -> Session:
    session = sessions.open(plan(options), idle)
    await until_started(session)
    return session


async def until_started(session: Session) -> None:
    async with asyncio.timeout(5):
        while session.state is SessionState.QUEUED:
            await session.log.change().wait()


async def collect(events: AsyncIterator[SessionEvent]) -> list[SessionEvent]:
    async with asyncio.timeout(5):
        return [event async for event in events]


async def test_a_stream_has_every_entry_once_in_order_and_one_end(sessions: Sessions) -> None:
    session = await started(sessions)
    session.record(PhaseStarted(Phase.DENOISING, 0))
    session.record(StepFinished(0, 1, 2))
    reader = asyncio.create_task(
        collect(sessions.events(session, 0, image_data=False, previews=False))
    )
    await asyncio.sleep(0)
    session.record(StepFinished(0, 2, 2))
    session.finish_image(picture())
    finish(session)

    events = await reader

    kinds = [type(event.event) for event in events]
    assert kinds == [
        Accepted,
        PhaseStarted,
        StepFinished,
        StepFinished,
        ImageFinished,
        Completed,
    ]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]


async def test_watching_from_the_middle_gives_the_rest(sessions: Sessions) -> None:
    session = await started(sessions)
    session.record(StepFinished(0, 1, 2))
    finish(session)

    rest = await collect(sessions.events(session, 2, image_data=False, previews=False))

    assert [event.sequence for event in rest] == [2, 3]


async def test_watching_past_what_there_will_be_is_out_of_range(sessions: Sessions) -> None:
    session = await started(sessions)
    finish(session)

    nothing_new = await collect(sessions.events(session, 3, image_data=True, previews=True))
    with pytest.raises(EventsExpired) as refusal:
        await collect(sessions.events(session, 4, image_data=False, previews=False))

    assert nothing_new == []

    assert refusal.value.metadata["last_sequence"] == "2"


async def test_one_past_the_newest_waits_for_it(sessions: Sessions) -> None:
    session = await started(sessions)
    reader = asyncio.create_task(
        collect(sessions.events(session, 2, image_data=False, previews=False))
    )
    await asyncio.sleep(0)
    finish(session)

    assert [type(event.event) for event in await reader] == [Completed]


async def test_chunks_come_before_their_entry_and_carry_the_number_before(
    sessions: Sessions,
) -> None:
    session = await started(sessions)
    session.finish_image(picture())
    finish(session)

    events = await collect(sessions.events(session, 1, image_data=True, previews=False))

    assert [(type(event.event), event.sequence) for event in events] == [
        (Accepted, 1),
        (ImageChunk, 1),
        (ImageChunk, 1),
        (ImageChunk, 1),
        (ImageFinished, 2),
        (Completed, 3),
    ]
    chunks = [event.event for event in events if isinstance(event.event, ImageChunk)]
    assert b"".join(chunk.data for chunk in chunks) == b"0123456789"
    assert [chunk.offset_bytes for chunk in chunks] == [0, 4, 8]


async def test_only_the_newest_preview_is_sent_and_only_to_those_who_asked(
    sessions: Sessions,
) -> None:
    session = await started(sessions)
    for step in (1, 2):
        session.record(StepFinished(0, step, 2))
        session.show(Preview(0, step, 8, 8, b"jpeg"))
    with_previews = sessions.events(session, 1, image_data=False, previews=True)
    async with aclosing(with_previews):
        seen = [await anext(with_previews) for _ in range(4)]
    finish(session)
    without = await collect(sessions.events(session, 1, image_data=False, previews=False))

    shown = seen[-1].event
    assert isinstance(shown, Preview)
    assert shown.step == 2
    assert seen[-1].sequence == 3
    assert not any(isinstance(event.event, Preview) for event in without)


async def test_a_silent_stream_gets_heartbeats_that_are_not_entries(sessions: Sessions) -> None:
    session = await started(sessions)
    session.record(PhaseStarted(Phase.DENOISING, 0))
    events = sessions.events(session, 3, image_data=False, previews=False)
    async with aclosing(events):
        beat = await anext(events)

    assert beat.event == Heartbeat(Phase.DENOISING)
    assert beat.sequence == session.log.last_sequence == 2


async def test_a_waiting_stream_hears_that_the_queue_moved(sessions: Sessions) -> None:
    release = asyncio.Event()

    async def busy(session: Session) -> None:
        session.start(lambda: None)
        await release.wait()
        finish(session)

    sessions.open(plan(), busy)
    await asyncio.sleep(0)
    second = sessions.open(plan(), busy)
    third = sessions.open(plan(), busy)
    events = sessions.events(third, 1, image_data=False, previews=False)
    async with aclosing(events):
        accepted = (await anext(events)).event
        second.request_cancel(Reason.CANCELLED_BY_CLIENT)
        sessions.queue("cpu:0").expire()
        moved = (await anext(events)).event
    release.set()

    assert isinstance(accepted, Accepted)
    assert accepted.queue_position == 2
    assert moved == QueueMoved(1)


async def test_the_same_request_id_and_request_is_the_same_session(sessions: Sessions) -> None:
    options = SessionOptions(request_id=REQUEST_ID)
    session = sessions.open(plan(options, digest=b"one"), idle)

    assert sessions.known(REQUEST_ID, b"one") is session
    assert sessions.known("", b"one") is None
    with pytest.raises(RequestIdReused):
        sessions.known(REQUEST_ID, b"two")


async def test_a_second_follower_is_told_that_the_session_existed(sessions: Sessions) -> None:
    session = await started(sessions)
    finish(session)

    events = await collect(
        sessions.follow(session, existing=True, image_data=False, previews=False)
    )

    assert [event.existing for event in events] == [True, False]


@pytest.mark.parametrize(
    ("on_disconnect", "state"),
    [
        (OnDisconnect.CANCEL, SessionState.CANCELLING),
        (OnDisconnect.DETACH, SessionState.RUNNING),
    ],
)
async def test_dropping_the_last_stream_does_what_the_options_say(
    sessions: Sessions, on_disconnect: OnDisconnect, state: SessionState
) -> None:
    session = await started(sessions, SessionOptions(on_disconnect=on_disconnect))
    streams = [
        sessions.follow(session, existing=False, image_data=False, previews=False)
        for _ in range(2)
    ]
    for stream in streams:
        await anext(stream)

    await streams[0].aclose()
    assert session.state is SessionState.RUNNING
    await streams[1].aclose()
    assert session.state is state


async def test_dropping_a_watch_never_cancels(sessions: Sessions) -> None:
    session = await started(sessions)
    watch = sessions.events(session, 1, image_data=False, previews=False)
    await anext(watch)
    await watch.aclose()

    assert session.state is SessionState.RUNNING


async def test_cancelling_twice_asks_the_worker_once_and_keeps_the_first_reason(
    sessions: Sessions,
) -> None:
    asked = []

    async def work(session: Session) -> None:
        session.start(lambda: asked.append(session.session_id))

    session = sessions.open(plan(), work)
    await until_started(session)
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    first = session.snapshot()
    session.request_cancel(Reason.CLIENT_DISCONNECTED)
    session.cancel()

    assert first.state is SessionState.CANCELLING
    assert asked == [session.session_id]
    end = session.log.terminal
    assert isinstance(end, Cancelled)
    assert end.reason is Reason.CANCELLED_BY_CLIENT
    with pytest.raises(SessionCancelled):
        session.raise_for_end()


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
        session.raise_for_end()
    assert end.value.reason is Reason.INTERNAL


async def test_transfer_progress_is_thinned_but_its_last_byte_is_kept(
    sessions: Sessions, clock: Clock
) -> None:
    session = await started(sessions)
    for done in range(0, 1001):
        session.record(TransferProgress("unet", done, 1000))
        clock.move(0.001)
    finish(session)

    progress = [
        event.event
        for event in await collect(
            sessions.events(session, 1, image_data=False, previews=False)
        )
        if isinstance(event.event, TransferProgress)
    ]

    assert 9 <= len(progress) <= 12
    assert progress[-1].done_bytes == 1000


async def test_final_sessions_are_forgotten_by_age_and_by_number(
    sessions: Sessions, clock: Clock
) -> None:
    async def at_once(session: Session) -> None:
        finish(session)

    opened = []
    for _ in range(7):
        opened.append(sessions.open(plan(), at_once))
        await asyncio.sleep(0.001)
    sessions.forget_expired()
    with pytest.raises(SessionNotFound):
        sessions.get(opened[1].session_id)
    assert sessions.get(opened[2].session_id) is opened[2]

    clock.move(61)
    sessions.forget_expired()
    with pytest.raises(SessionNotFound):
        sessions.get(opened[6].session_id)


async def test_stopping_refuses_new_work_and_ends_what_is_left(sessions: Sessions) -> None:
    running = await started(sessions)

    await sessions.stop(0)

    end = running.log.terminal
    assert isinstance(end, Cancelled)
    assert end.reason is Reason.SHUTTING_DOWN
    with pytest.raises(Unavailable):
        sessions.open(plan(), idle)


async def test_a_session_that_ends_with_the_server_tells_its_callers_to_come_again(
    sessions: Sessions,
) -> None:
    """As every other call does then; nobody asked for it to be cancelled."""
    running, waiting = await started(sessions), sessions.open(plan(), idle)

    await sessions.stop(0)

    for session in (running, waiting):
        with pytest.raises(Unavailable) as end:
            session.raise_for_end()
        assert end.value.reason is Reason.SHUTTING_DOWN
        assert end.value.retry_after


async def test_progress_grows_to_one(sessions: Sessions) -> None:
    session = await started(sessions)
    seen = [session.snapshot().progress]
    for index in (0, 1):
        for step in (1, 2):
            session.record(StepFinished(index, step, 2))
            seen.append(session.snapshot().progress)
    finish(session)
    seen.append(session.snapshot().progress)

    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[2] == 0.5
    assert seen[-2] < 1
    assert seen[-1] == 1
