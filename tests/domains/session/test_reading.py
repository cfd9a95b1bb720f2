"""Reading events: order, numbers, chunks, previews, silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from domains.errors import DataLoss, DomainError, NotFound, Reason, Unavailable
from domains.session.core.reading import SessionReader
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.errors import (
    EventsExpired,
)
from domains.session.types import (
    Accepted,
    Completed,
    Delivery,
    Heartbeat,
    ImageChunk,
    ImageFinished,
    Phase,
    PhaseStarted,
    Preview,
    PreviewSettings,
    QueueMoved,
    SessionState,
    StepFinished,
    TransferProgress,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import collect, finish, picture, started, submit
from tests.domains.sessions import Artifacts


async def test_a_stream_has_every_entry_once_in_order_and_one_end(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    session.record(PhaseStarted(Phase.DENOISING, 0))
    session.record(StepFinished(0, 1, 2))
    reading = asyncio.create_task(collect(reader.events(session, 0)))
    await asyncio.sleep(0)
    session.record(StepFinished(0, 2, 2))
    session.finish_image(picture())
    finish(session)

    events = await reading

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


async def test_watching_from_the_middle_gives_the_rest(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    session.record(StepFinished(0, 1, 2))
    finish(session)

    rest = await collect(reader.events(session, 2))

    assert [event.sequence for event in rest] == [2, 3]


async def test_watching_past_what_there_will_be_is_out_of_range(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    finish(session)

    nothing_new = await collect(
        reader.events(session, 3, delivery=Delivery(previews=PreviewSettings(1)))
    )
    with pytest.raises(EventsExpired) as refusal:
        await collect(reader.events(session, 4))

    assert nothing_new == []

    assert refusal.value.metadata == {
        "first_sequence": "1",
        "last_sequence": "2",
        "state": "completed",
        "progress": "1.000",
    }


async def test_one_past_the_newest_waits_for_it(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    reading = asyncio.create_task(collect(reader.events(session, 2)))
    await asyncio.sleep(0)
    finish(session)

    assert [type(event.event) for event in await reading] == [Completed]


async def test_chunks_come_before_their_entry_and_carry_the_number_before(
    sessions: Sessions,
    reader: SessionReader,
) -> None:
    session = await started(sessions)
    session.finish_image(picture())
    finish(session)

    events = await collect(reader.events(session, delivery=Delivery()))

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


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFound("gone", reason=Reason.ARTIFACT_NOT_FOUND), Reason.ARTIFACT_NOT_FOUND),
        (DataLoss("damaged", reason=Reason.DATA_CORRUPTED), Reason.DATA_CORRUPTED),
        (Unavailable("no", reason=Reason.STORAGE_UNAVAILABLE), Reason.STORAGE_UNAVAILABLE),
    ],
)
async def test_a_picture_that_is_gone_is_marked_and_the_log_goes_on_to_its_end(
    sessions: Sessions, clock: SteeredTime, error: DomainError, reason: Reason, after: int
) -> None:
    class Damaged(Artifacts):
        async def read_of(
            self, owner: str, artifact_id: str, *, offset: int = 0, length: int = 0
        ) -> AsyncIterator[bytes]:
            for _ in range(after):
                yield b"0123"
            raise error

    reader = SessionReader(Damaged(), heartbeat_seconds=0.05, clock=clock.clock)
    session = await started(sessions)
    session.finish_image(picture())
    session.record(StepFinished(0, 1, 2))
    finish(session)

    events = await collect(reader.events(session, delivery=Delivery()))
    without = await collect(reader.events(session))

    entries = [event for event in events if not isinstance(event.event, ImageChunk)]
    assert [event.sequence for event in entries] == [1, 2, 3, 4]
    assert len(events) - len(entries) == after
    assert entries[1].event == ImageFinished(picture(), reason)
    assert without[1].event == ImageFinished(picture())


async def test_only_the_newest_preview_is_sent_and_only_to_those_who_asked(
    sessions: Sessions,
    reader: SessionReader,
) -> None:
    session = await started(sessions)
    for step in (1, 2):
        session.record(StepFinished(0, step, 2))
        session.record(Preview(0, step, 8, 8, b"jpeg"))
    with_previews = reader.events(session, delivery=Delivery(previews=PreviewSettings(1)))
    async with aclosing(with_previews):
        seen = [await anext(with_previews) for _ in range(4)]
    finish(session)
    without = await collect(reader.events(session))

    shown = seen[-1].event
    assert isinstance(shown, Preview)
    assert shown.step == 2
    assert seen[-1].sequence == 3
    assert not any(isinstance(event.event, Preview) for event in without)


async def test_a_silent_stream_gets_heartbeats_that_are_not_entries(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    session.record(PhaseStarted(Phase.DENOISING, 0))
    events = reader.events(session, 3)
    async with aclosing(events):
        beat = await anext(events)

    assert beat.event == Heartbeat(Phase.DENOISING)
    assert beat.sequence == session.log.last_sequence == 2


async def test_a_waiting_stream_hears_that_the_queue_moved(
    sessions: Sessions, reader: SessionReader
) -> None:
    release = asyncio.Event()

    async def busy(session: Session) -> None:
        session.start(lambda: None)
        await release.wait()
        finish(session)

    submit(sessions, busy)
    await asyncio.sleep(0)
    second = submit(sessions, busy)
    third = submit(sessions, busy)
    events = reader.events(third)
    async with aclosing(events):
        accepted = (await anext(events)).event
        second.request_cancel(Reason.CANCELLED_BY_CLIENT)
        sessions.queue("cpu:0").expire()
        moved = (await anext(events)).event
    release.set()

    assert isinstance(accepted, Accepted)
    assert accepted.queue_position == 2
    assert moved == QueueMoved(1)


async def test_dropping_a_watch_never_cancels(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    watch = reader.events(session)
    await anext(watch)
    await watch.aclose()

    assert session.state is SessionState.RUNNING


async def test_transfer_progress_is_thinned_but_its_last_byte_is_kept(
    sessions: Sessions, reader: SessionReader, clock: SteeredTime
) -> None:
    session = await started(sessions)
    for done in range(0, 1001):
        session.record(TransferProgress("unet", done, 1000))
        clock.move(0.001)
    finish(session)

    progress = [
        event.event
        for event in await collect(reader.events(session))
        if isinstance(event.event, TransferProgress)
    ]

    assert 9 <= len(progress) <= 12
    assert progress[-1].done_bytes == 1000
