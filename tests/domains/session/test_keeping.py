"""Sessions that outlive the server: what the next one answers of them, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from domains.codec import Malformed, decode, encode
from domains.errors import DomainError, Reason, ResourceExhausted
from domains.session import types
from domains.session.core.plan import SessionRequest, Work
from domains.session.core.session import Session
from domains.session.errors import EventsExpired, RequestIdReused, SessionNotFound
from domains.session.records import SessionRecord, record_in
from domains.session.turns import Paused
from domains.session.types import (
    OnDisconnect,
    Outcome,
    Phase,
    PhaseStarted,
    Priority,
    SessionState,
    StepFinished,
    WorkOptions,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import asked, collect, idle, picture, until_started
from tests.domains.session.servers import Disk, Server
from tests.domains.sessions import until_final

REPORT = "what it came to"
REQUEST_ID = "6fdc22a8-5f0f-4a5c-9f6a-8c6e1a3a5b11"


async def drawing(session: Session) -> Outcome:
    """Two pictures in two steps each."""
    session.record(PhaseStarted(Phase.DENOISING))
    for index in range(2):
        for step in (1, 2):
            session.record(StepFinished(index, step, 2))
        session.finish_image(picture(index))
    return Outcome(timings={Phase.DENOISING: 1.5}, report=REPORT)


async def failing(session: Session) -> Outcome:
    raise ResourceExhausted("Too large.", reason=Reason.DEVICE_OUT_OF_MEMORY)


async def endless(session: Session) -> None:
    await asyncio.Event().wait()


OPTIONS = WorkOptions(
    request_id=REQUEST_ID,
    priority=Priority.HIGH,
    on_disconnect=OnDisconnect.DETACH,
    tags=("night",),
    metadata={"key": "value"},
)


async def done(server: Server, request: SessionRequest) -> Session:
    """The request's session, which has ended."""
    async with asyncio.timeout(30):
        events = server.runner.run(request)
        first = await anext(events)
        with contextlib.suppress(DomainError):
            async for _ in events:
                pass
    return server.sessions.get(first.session_id)


@pytest.mark.parametrize("work", [drawing, failing])
async def test_what_has_ended_is_answered_as_before(
    servers: Callable[[], Server], clock: SteeredTime, work: Work
) -> None:
    first = servers()
    session = await done(first, asked(work, OPTIONS, owner="ada"))
    before = await first.answers(session.session_id)
    clock.move(60)
    second = servers()
    after = await second.answers(session.session_id)
    before.session.first_sequence = after.session.first_sequence  # progress is given up
    assert after == before
    assert [each.session_id for each in second.sessions.all()] == [session.session_id]


async def test_its_events_are_watched_again_without_its_progress(
    servers: Callable[[], Server],
) -> None:
    first = servers()
    session = await done(first, asked(drawing))
    log, last = session.log.entries(), session.log.last_sequence
    second = servers()
    again = second.sessions.get(session.session_id)
    events = await collect(second.reader.events(again, 0))
    whole = [each for each in log if not isinstance(each, StepFinished)]
    assert [type(each.event) for each in events] == [type(each) for each in whole]
    assert events[-1].sequence == last
    kept = await collect(second.reader.events(again, again.log.first_sequence))
    assert [each.sequence for each in kept] == [last - 1, last]
    with pytest.raises(EventsExpired) as told:
        await collect(second.reader.events(again, 3))
    assert told.value.metadata == {
        "first_sequence": str(last - 1),
        "last_sequence": str(last),
        "state": "completed",
        "progress": "1.000",
    }


async def test_a_request_id_is_the_same_session_after_a_restart_as_well(
    servers: Callable[[], Server],
) -> None:
    session = await done(servers(), asked(drawing, OPTIONS, digest=b"1"))
    second = servers()
    assert (await done(second, asked(idle, OPTIONS, digest=b"1"))).session_id == (
        session.session_id
    )
    with pytest.raises(RequestIdReused):
        await anext(second.runner.run(asked(idle, OPTIONS, digest=b"2")))
    other = await done(second, asked(drawing, OPTIONS, digest=b"2", owner="bob"))
    assert other.session_id != session.session_id


async def test_what_had_not_ended_has_failed_and_its_numbers_are_new(
    servers: Callable[[], Server],
) -> None:
    first = servers()
    events = first.runner.run(asked(endless, OPTIONS))
    session_id = (await anext(events)).session_id
    session = first.sessions.get(session_id)
    await until_started(session)
    session.record(StepFinished(0, 1, 2))
    seen = session.log.last_sequence
    second = servers()
    after = second.sessions.get(session_id)
    assert after.state is SessionState.FAILED
    assert after.failure is not None
    assert after.failure.reason is Reason.SERVER_RESTARTED
    assert after.log.last_sequence > seen + 1
    with pytest.raises(EventsExpired):
        await collect(second.reader.events(after, seen + 1))
    (*_, end) = await collect(second.reader.events(after, after.log.first_sequence))
    assert end.event == types.Failed(after.failure, ())
    third = servers()
    assert await third.answers(session_id) == await second.answers(session_id)
    await events.aclose()


async def test_age_and_number_bound_what_is_remembered(
    servers: Callable[[], Server], disk: Disk, clock: SteeredTime
) -> None:
    first = servers()
    old = await done(first, asked(drawing))
    clock.move(3_000)
    for _ in range(3):
        await done(first, asked(drawing))
    second = servers()
    clock.move(601)
    second.sessions.forget_expired()
    with pytest.raises(SessionNotFound):
        second.sessions.get(old.session_id)
    assert old.session_id not in disk.records
    for _ in range(4):
        await done(second, asked(drawing))
    second.sessions.forget_expired()
    assert len(servers().sessions.all()) == len(disk.records) == 5


async def test_what_is_deleted_or_changed_is_so_after_a_restart(
    servers: Callable[[], Server],
) -> None:
    first = servers()
    gone, changed = await done(first, asked(drawing)), await done(first, asked(drawing))
    first.sessions.forget(gone)
    first.sessions.update(changed, WorkOptions(tags=("seen",)))
    second = servers()
    (session,) = second.sessions.all()
    assert session.session_id == changed.session_id
    assert session.options.tags == ("seen",)
    second.sessions.update(session, WorkOptions(tags=("again",)))
    assert servers().sessions.get(changed.session_id).options.tags == ("again",)


async def test_nothing_begins_and_nobody_is_told_before_it_is_on_disk(
    servers: Callable[[], Server], disk: Disk
) -> None:
    disk.may_write.clear()
    server = servers()
    events = server.runner.run(asked(drawing, OPTIONS))
    again = server.runner.run(asked(drawing, OPTIONS))
    told, as_well = asyncio.ensure_future(anext(events)), asyncio.ensure_future(anext(again))
    await asyncio.sleep(0.05)
    (session,) = server.sessions.all()
    assert session.state is SessionState.QUEUED
    assert not told.done()
    assert not as_well.done()
    disk.may_write.set()
    async with asyncio.timeout(30):
        assert (await told).session_id == (await as_well).session_id == session.session_id
        await until_final(session)
    assert session.state is SessionState.COMPLETED
    await events.aclose()
    await again.aclose()


async def test_an_end_is_told_once_it_is_on_disk(
    servers: Callable[[], Server], disk: Disk
) -> None:
    disk.slow = True
    server = servers()
    told = asyncio.ensure_future(done(server, asked(drawing)))
    async with asyncio.timeout(30):
        (await disk.tried.get()).set_result(None)  # its turn has begun
        tried = await disk.tried.get()
    await asyncio.sleep(0.05)
    assert not told.done()
    tried.set_result(None)
    session = await told
    server.sessions.forget(session)
    gone = asyncio.ensure_future(server.sessions.settled(session))
    await asyncio.sleep(0.01)
    assert not gone.done()
    (await disk.tried.get()).set_result(None)
    await gone


async def test_a_pause_is_told_once_it_is_on_disk(
    servers: Callable[[], Server], disk: Disk
) -> None:
    server = servers()
    await until_started(await server.runner.begin(asked(endless)))
    session = await server.runner.begin(asked(drawing, OPTIONS))
    while not disk.tried.empty():
        disk.tried.get_nowait()
    disk.slow = True
    server.sessions.pause(session, "", "ada")
    tried = await disk.tried.get()
    events = server.reader.events(session)
    told: list[type[object]] = []
    paused = asyncio.Event()

    async def read() -> None:
        async for event in events:
            told.append(type(event.event))
            if isinstance(event.event, Paused):
                paused.set()

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0.05)
    assert types.Accepted in told
    assert not paused.is_set()
    tried.set_result(None)
    async with asyncio.timeout(30):
        await paused.wait()
    reading.cancel()


async def test_what_the_disk_does_not_take_was_never_accepted(
    servers: Callable[[], Server], disk: Disk
) -> None:
    disk.full = True
    server = servers()
    with pytest.raises(ResourceExhausted) as told:
        await anext(server.runner.run(asked(drawing, OPTIONS)))
    assert told.value.reason is Reason.DISK_FULL
    assert server.sessions.all() == ()
    assert server.sessions.queue("cpu:0").depth == 0
    assert disk.records == {}
    disk.full = False
    session = await done(server, asked(drawing, OPTIONS))
    assert session.state is SessionState.COMPLETED


async def test_who_leaves_while_it_is_written_down_ends_it(
    servers: Callable[[], Server], disk: Disk
) -> None:
    disk.may_write.clear()
    server = servers()
    waiting = asyncio.ensure_future(anext(server.runner.run(asked(drawing))))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    (session,) = server.sessions.all()
    assert session.state is SessionState.CANCELLED
    disk.may_write.set()
    await asyncio.sleep(0.01)
    after = servers().sessions.get(session.session_id)
    assert after.state is SessionState.CANCELLED


async def test_records_with_logs_that_are_none_are_malformed(
    servers: Callable[[], Server], disk: Disk
) -> None:
    await done(servers(), asked(drawing))
    (body,) = disk.records.values()
    record = decode(SessionRecord, body)
    first, *rest = record.entries
    report = rest[-1].report
    for entries in (
        (),
        (*rest, first),
        (first, first, *rest),
        (replace(first, kind="Nothing"), *rest),
        (replace(first, body=b""), *rest),
        (replace(first, report=report), *rest),
        (replace(rest[-1], sequence=0), first),
        (first, replace(rest[-1], sequence=1_000)),
    ):
        with pytest.raises(Malformed):
            record_in(encode(replace(record, entries=entries)))
