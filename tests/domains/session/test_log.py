"""No session's log grows without end, nor do all together; nothing is missing silently."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from domains.session.core import sessions as registry
from domains.session.core.reading import SessionReader
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.snapshots import snapshot_of
from domains.session.errors import EventsExpired
from domains.session.types import (
    Accepted,
    Completed,
    ImageFinished,
    Phase,
    PhaseStarted,
    StepFinished,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import (
    collect,
    finish,
    idle,
    picture,
    started,
    submit,
    until_started,
)


def draw(session: Session, steps: int) -> None:
    """A picture of so many steps, to its end."""
    session.record(PhaseStarted(Phase.DENOISING, 0))
    for step in range(1, steps + 1):
        session.record(StepFinished(0, step, steps))
    session.finish_image(picture())
    finish(session)


async def test_the_longest_honest_work_keeps_every_step(sessions: Sessions) -> None:
    session = await started(sessions)
    draw(session, 9 * 150)
    assert len(session.log) == session.log.last_sequence == 9 * 150 + 4


async def test_a_flood_of_steps_is_thinned_more_the_longer_it_lasts(
    sessions: Sessions, reader: SessionReader, clock: SteeredTime
) -> None:
    session = await started(sessions)
    for _ in range(200_000):  # two hundred thousand seconds of a thousand steps each
        session.record(StepFinished(0, 1, 10_000))
        clock.move(1.0)
    session.finish_image(picture())
    finish(session)
    assert 2_000 < len(session.log) < 12_000
    events = await collect(reader.events(session))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-2].event, ImageFinished)


async def test_a_flood_at_once_stops_at_two_thousand_steps(sessions: Sessions) -> None:
    session = await started(sessions)
    draw(session, 10_000)
    assert len(session.log) < 2_010
    assert isinstance(session.log.terminal, Completed)


async def test_old_sessions_give_up_progress_and_nothing_else(
    sessions: Sessions,
    reader: SessionReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_MOST_ENTRIES", 150)
    old = await started(sessions)
    draw(old, 100)
    new = submit(sessions, idle, device_id="cpu:1")
    await until_started(new)
    draw(new, 100)
    sessions.forget_expired()

    assert len(new.log) == 104
    kept = await collect(reader.events(old))
    kinds = [type(event.event) for event in kept]
    assert kinds == [Accepted, PhaseStarted, ImageFinished, Completed]
    assert [event.sequence for event in kept] == [1, 2, 103, 104]
    snapshot = snapshot_of(old)
    assert (snapshot.first_sequence, snapshot.last_sequence) == (103, 104)


@pytest.mark.parametrize("start", [2, 50, 102])
async def test_going_on_where_something_is_missing_is_refused(
    sessions: Sessions, reader: SessionReader, start: int
) -> None:
    session = await started(sessions)
    draw(session, 100)
    session.log.condense()
    with pytest.raises(EventsExpired) as expired:
        await collect(reader.events(session, start))
    kept = {"first_sequence": "103", "last_sequence": "104"}
    assert expired.value.metadata.items() >= kept.items()
    assert len(await collect(reader.events(session, 103))) == 2


async def test_a_reader_under_way_hears_that_something_is_missing(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    draw(session, 100)
    async with aclosing(reader.events(session)) as events:
        await anext(events)
        await anext(events)
        session.log.condense()
        with pytest.raises(EventsExpired):
            await anext(events)


async def test_a_log_that_is_shortened_keeps_its_first_entry_and_says_what_is_missing(
    sessions: Sessions, reader: SessionReader
) -> None:
    session = await started(sessions)
    async with aclosing(reader.events(session)) as late:
        await anext(late)
        for _ in range(20):
            session.record(PhaseStarted(Phase.DENOISING))
        session.log.shorten(20)  # a quarter more would be 25
        assert len(session.log) == 21
        session.log.shorten(8)
        with pytest.raises(EventsExpired):
            await collect(late)
    assert (len(session.log), session.log.first_sequence) == (8, 15)
    finish(session)
    events = await collect(reader.events(session))
    assert [event.sequence for event in events] == [1, *range(15, 23)]
    with pytest.raises(EventsExpired):
        await collect(reader.events(session, 14))


@pytest.mark.parametrize("start", [1, 15])
async def test_a_reader_of_a_log_that_began_earlier_hears_of_what_goes_meanwhile(
    sessions: Sessions, reader: SessionReader, start: int
) -> None:
    session = await started(sessions)
    for _ in range(20):
        session.record(PhaseStarted(Phase.DENOISING))
    session.log.shorten(8)
    assert session.log.first_sequence == 15
    async with aclosing(reader.events(session, start)) as events:
        read = [(await anext(events)).sequence for _ in range(3)]
        assert read == ([1, 15, 16] if start == 1 else [15, 16, 17])
        for _ in range(20):
            session.record(PhaseStarted(Phase.DENOISING))
        session.log.shorten(8)
        with pytest.raises(EventsExpired):
            await anext(events)
