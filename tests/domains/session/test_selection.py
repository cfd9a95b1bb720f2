"""What a stream asked for, and nothing beside it."""

from __future__ import annotations

import asyncio

from domains.session.core.reading import SessionReader
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import (
    Accepted,
    Completed,
    Delivery,
    EventKind,
    Heartbeat,
    ImageFinished,
    Phase,
    PhaseStarted,
    QueueMoved,
    SessionEvent,
    StepFinished,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import collect, finish, idle, picture, started, submit


async def drawn(sessions: Sessions, clock: SteeredTime) -> Session:
    """Two pictures of five steps, a second each, drawn one after the other."""
    session = await started(sessions)
    for index in (0, 1):
        session.record(PhaseStarted(Phase.DENOISING, index))
        for step in range(1, 6):
            clock.move(1)
            session.record(StepFinished(index, step, 5))
        session.finish_image(picture(index))
    finish(session)
    return session


def steps(events: list[SessionEvent]) -> list[tuple[int, int]]:
    return [(e.event.image_index, e.event.step) for e in events if _is_step(e)]


def _is_step(event: SessionEvent) -> bool:
    return isinstance(event.event, StepFinished)


async def test_only_the_kinds_that_were_asked_for_come_and_the_first_and_the_last(
    sessions: Sessions, reader: SessionReader, clock: SteeredTime
) -> None:
    session = await drawn(sessions, clock)
    kinds = frozenset({EventKind.IMAGE_FINISHED})
    delivery = Delivery(image_data=False, kinds=kinds)
    events = await collect(reader.events(session, delivery=delivery))
    assert [type(event.event) for event in events] == [
        Accepted,
        ImageFinished,
        ImageFinished,
        Completed,
    ]
    assert [event.sequence for event in events] == [1, 8, 15, 16]  # of what is left out, too


async def test_no_bytes_of_pictures_whose_entries_were_not_asked_for(
    sessions: Sessions, reader: SessionReader, clock: SteeredTime
) -> None:
    session = await drawn(sessions, clock)
    delivery = Delivery(kinds=frozenset({EventKind.PHASE_STARTED}))
    events = await collect(reader.events(session, delivery=delivery))
    assert [type(event.event) for event in events] == [
        Accepted,
        PhaseStarted,
        PhaseStarted,
        Completed,
    ]


async def test_steps_come_at_the_interval_and_the_last_of_each_picture_always(
    sessions: Sessions, reader: SessionReader, clock: SteeredTime
) -> None:
    session = await drawn(sessions, clock)
    delivery = Delivery(image_data=False, step_interval_seconds=3)
    events = await collect(reader.events(session, delivery=delivery))
    assert steps(events) == [(0, 1), (0, 4), (0, 5), (1, 1), (1, 4), (1, 5)]


async def test_a_clock_that_is_set_back_stops_no_steps(
    sessions: Sessions, reader: SessionReader, clock: SteeredTime
) -> None:
    session = await started(sessions)
    session.record(StepFinished(0, 1, 3))
    clock.set_wall(-3600)
    session.record(StepFinished(0, 2, 3))
    finish(session)
    delivery = Delivery(image_data=False, step_interval_seconds=10)
    events = await collect(reader.events(session, delivery=delivery))
    assert steps(events) == [(0, 1), (0, 2)]


async def test_a_stream_that_skips_everything_still_hears_that_the_session_lives(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    delivery = Delivery(image_data=False, kinds=frozenset({EventKind.IMAGE_FINISHED}))
    events = reader.events(session, delivery=delivery)
    assert isinstance((await anext(events)).event, Accepted)
    beat = asyncio.ensure_future(anext(events))
    while not beat.done():  # the log never rests, the stream is silent
        session.record(StepFinished(0, 1, 5))
        await asyncio.sleep(0.001)
    assert isinstance(beat.result().event, Heartbeat)
    await events.aclose()


async def test_moves_in_the_queue_come_to_those_who_asked(
    sessions: Sessions, reader: SessionReader
) -> None:
    async def heard(kinds: frozenset[EventKind]) -> list[SessionEvent]:
        first, second = submit(sessions, idle), submit(sessions, idle)
        sessions.pause(first, "", "")
        reading = asyncio.ensure_future(
            collect(reader.events(second, delivery=Delivery(image_data=False, kinds=kinds)))
        )
        await asyncio.sleep(0.01)
        finish(second)
        first.cancel()
        return await reading

    async def hold(session: Session) -> None:
        session.start(lambda: None)
        await asyncio.sleep(0)

    submit(sessions, hold)
    everything = await heard(frozenset())
    nothing = await heard(frozenset({EventKind.IMAGE_DECODED}))
    assert any(isinstance(event.event, QueueMoved) for event in everything)
    assert not any(isinstance(event.event, QueueMoved) for event in nothing)
