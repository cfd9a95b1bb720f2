"""Watching all sessions: everything once, in order, or a later state of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domains.changes import ChangesExpired
from domains.errors import Reason
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.snapshots import snapshot_of
from domains.session.types import Phase, PhaseStarted, SessionState, WorkOptions
from domains.session.views import (
    SessionChange,
    SessionChangeKind,
    SessionFilter,
    SessionSnapshot,
)
from tests.clocks import SteeredTime
from tests.domains.session.conftest import finish, idle, registry, started, submit

ADDED, CHANGED, ENDED, REMOVED, SNAPSHOT_END, HEARTBEAT = SessionChangeKind
ALL = SessionFilter()


class Only:
    """A client that sees what is its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def sees(self, owner: str) -> bool:
        return owner == self.name


async def news(watch: AsyncGenerator[SessionChange]) -> list[SessionChange]:
    """Everything up to the first heartbeat."""
    found = []
    async with asyncio.timeout(30):
        async for change in watch:
            if change.kind is HEARTBEAT:
                return found
            found.append(change)
    raise AssertionError("the watch ended")


def kinds(changes: list[SessionChange]) -> list[SessionChangeKind]:
    return [change.kind for change in changes]


async def test_the_state_of_now_then_what_happens(sessions: Sessions) -> None:
    session = await started(sessions)
    watch = sessions.changes.watch(ALL)
    first = await news(watch)
    assert kinds(first) == [ADDED, SNAPSHOT_END]
    assert {change.revision for change in first} == {sessions.changes.revision}

    session.record(PhaseStarted(Phase.DECODING))
    (changed,) = await news(watch)
    assert changed.kind is CHANGED
    assert changed.session is not None
    assert changed.session.phase is Phase.DECODING
    finish(session)
    assert kinds(await news(watch)) == [ENDED]
    sessions.update(session, replace(session.options, tags=("late",)))
    assert kinds(await news(watch)) == [CHANGED]
    sessions.forget(session)
    assert kinds(await news(watch)) == [REMOVED]
    await watch.aclose()


async def test_a_slow_reader_gets_the_newest_state_in_place_of_older_ones(
    sessions: Sessions,
) -> None:
    session = await started(sessions)
    watch = sessions.changes.watch(ALL)
    await news(watch)
    for phase in (Phase.ENCODING_TEXT, Phase.DENOISING, Phase.DECODING):
        session.record(PhaseStarted(phase))
    (changed,) = await news(watch)
    assert changed.session is not None
    assert changed.session.phase is Phase.DECODING
    await watch.aclose()


async def test_one_that_came_and_ended_meanwhile_is_told_twice(sessions: Sessions) -> None:
    watch = sessions.changes.watch(ALL)
    await news(watch)
    before = sessions.changes.revision
    session = await started(sessions)
    finish(session)

    added, ended = await news(watch)

    assert (added.kind, ended.kind) == (ADDED, ENDED)
    assert before <= added.revision < ended.revision
    again = await news(sessions.changes.watch(ALL, from_revision=added.revision))
    assert kinds(again)[-1] is ENDED
    await watch.aclose()


async def test_an_end_is_told_once_though_its_session_was_shown_ended_before(
    sessions: Sessions,
) -> None:
    first, second = await started(sessions), submit(sessions, idle, device_id="cuda:0")
    await asyncio.sleep(0)
    watch = sessions.changes.watch(ALL)
    await news(watch)
    first.record(PhaseStarted(Phase.DECODING))
    sessions.update(second, replace(second.options, tags=("x",)))
    await anext(watch)
    finish(second)  # the reader is at its change before

    changed, ended = await news(watch)

    assert (changed.kind, ended.kind) == (CHANGED, ENDED)
    assert changed.revision < ended.revision
    again = await news(sessions.changes.watch(ALL, from_revision=changed.revision))
    assert kinds(again) == [ENDED]
    again = await news(sessions.changes.watch(ALL, from_revision=ended.revision))
    assert kinds(again) == []
    await watch.aclose()


async def test_whoever_was_away_goes_on_from_a_revision(sessions: Sessions) -> None:
    session, gone = await started(sessions), submit(sessions, idle, device_id="cuda:0")
    await asyncio.sleep(0)
    finish(gone)
    seen = sessions.changes.revision
    session.record(PhaseStarted(Phase.DECODING))
    sessions.forget(gone)
    new = submit(sessions, idle)

    changes = await news(sessions.changes.watch(ALL, from_revision=seen))

    told: dict[str, SessionChangeKind] = {}
    for change in changes:
        assert change.session is not None
        told.setdefault(change.session.session_id, change.kind)
    assert told == {
        session.session_id: CHANGED,
        gone.session_id: REMOVED,
        new.session_id: ADDED,
    }
    revisions = [change.revision for change in changes]
    assert revisions == sorted(revisions)
    assert revisions[0] > seen


async def test_changes_that_are_not_kept_have_expired(
    sessions: Sessions, clock: SteeredTime
) -> None:
    begin = sessions.changes.revision
    for _ in range(6):  # five are kept
        session = await started(sessions)
        finish(session)
        sessions.forget(session)
    for wrong in (begin, 1, sessions.changes.revision + 1):
        with pytest.raises(ChangesExpired) as refusal:
            await anext(sessions.changes.watch(ALL, from_revision=wrong))
        assert refusal.value.reason is Reason.EVENTS_EXPIRED

    clock.move(1)
    later = registry(clock, 3)  # the server was started again
    with pytest.raises(ChangesExpired):
        await anext(later.changes.watch(ALL, from_revision=sessions.changes.revision))


async def test_a_reader_that_is_too_slow_hears_that_it_missed_something(
    sessions: Sessions,
) -> None:
    watch = sessions.changes.watch(ALL)
    await news(watch)
    for _ in range(7):
        session = await started(sessions)
        finish(session)
        sessions.forget(session)
    with pytest.raises(ChangesExpired):
        await news(watch)


async def test_what_is_wanted_no_more_is_shown_once_more(sessions: Sessions) -> None:
    running = SessionFilter(states=frozenset({SessionState.RUNNING}))
    session = submit(sessions, idle)
    watch = sessions.changes.watch(running)
    assert kinds(await news(watch)) == [SNAPSHOT_END, ADDED]
    finish(session)
    assert kinds(await news(watch)) == [ENDED]
    sessions.forget(session)
    assert await news(watch) == []
    await watch.aclose()


async def test_who_comes_back_hears_only_of_what_was_wanted(
    sessions: Sessions,
) -> None:
    """What had the tag and lost it is told once more; what never had it is not."""
    bread = submit(sessions, idle, WorkOptions(tags=("bread",)))
    submit(sessions, idle, WorkOptions(tags=("cake",)), device_id="cuda:0")
    sold = submit(sessions, idle, WorkOptions(tags=("bread",)), device_id="cuda:1")
    seen = sessions.changes.revision
    sessions.update(sold, replace(sold.options, tags=("sold",)))
    for session in sessions.all():
        finish(session)

    wanted = SessionFilter(tags=("bread",))
    changes = await news(sessions.changes.watch(wanted, from_revision=seen))

    ids = [change.session.session_id for change in changes if change.session]
    assert ids == [bread.session_id, sold.session_id]


async def test_nobody_sees_what_is_not_theirs(sessions: Sessions) -> None:
    mine = submit(sessions, idle, WorkOptions(request_id="mine"), owner="a")
    submit(sessions, idle, device_id="cuda:0", owner="b")
    changes = await news(sessions.changes.watch(ALL, Only("a")))
    ids = [change.session.session_id for change in changes if change.session]
    assert set(ids) == {mine.session_id}
    assert changes[0].session is not None
    assert changes[0].session.options.request_id == "mine"

    (theirs, *_) = await news(sessions.changes.watch(SessionFilter(owner="a")))
    assert theirs.session is not None
    assert theirs.session.options.request_id == ""


def _act(sessions: Sessions, moves: random.Random, clock: SteeredTime) -> None:
    """Something that may happen to sessions."""
    live = [s for s in sessions.all() if not s.state.final]
    final = [s for s in sessions.all() if s.state.final]
    match moves.choice(("new", "new", "cancel", "pause", "resume", "finish", "forget", "tag")):
        case "new" if len(live) < 4:
            submit(sessions, idle, device_id=moves.choice(("cpu:0", "cuda:0")))
        case "cancel" if live:
            moves.choice(live).request_cancel(Reason.CANCELLED_BY_CLIENT)
        case "pause":
            for session in live:
                if session.state is SessionState.QUEUED:
                    sessions.pause(session, "", "")
        case "resume":
            for session in live:
                if session.state is SessionState.PAUSED:
                    sessions.resume(session, "")
        case "finish" if live:
            finish(moves.choice(live))
        case "forget" if final:
            sessions.forget(moves.choice(final))
        case "tag" if live or final:
            session = moves.choice(live + final)
            sessions.update(session, replace(session.options, tags=("x",)))
    clock.move(0.001)


@given(seed=st.integers(0, 2**32), breaks=st.lists(st.integers(1, 12), max_size=3))
@example(seed=16777217, breaks=[3, 6])
@settings(max_examples=40, deadline=None)
def test_following_the_changes_gives_what_there_is(seed: int, breaks: list[int]) -> None:
    """However slow the reader is, and wherever its stream breaks off."""
    asyncio.run(_follow(seed, breaks))


async def _follow(seed: int, breaks: list[int]) -> None:
    moves, clock = random.Random(seed), SteeredTime()
    sessions = registry(clock, 30, heartbeat=0.001, kept=1_000)
    known: dict[str, SessionSnapshot] = {}
    ended: set[str] = set()
    revision = 0
    left = list(breaks)

    def take(change: SessionChange) -> None:
        nonlocal revision
        assert change.revision >= revision
        revision = change.revision
        if change.session is None:
            return
        session_id = change.session.session_id
        if change.kind is REMOVED:
            known.pop(session_id, None)
            return
        if change.kind is ENDED:
            assert session_id not in ended
            ended.add(session_id)
        known[session_id] = change.session

    for _ in range(12):
        watch = sessions.changes.watch(ALL, from_revision=revision)
        count = left.pop() if left else 30
        try:
            for _ in range(count):
                async with asyncio.timeout(30):
                    change = await anext(watch)
                take(change)
                if change.kind is HEARTBEAT and not moves.randrange(2):
                    break
                for _ in range(moves.randrange(3)):
                    _act(sessions, moves, clock)
                    await asyncio.sleep(0)
        finally:
            await watch.aclose()
    for change in await news(sessions.changes.watch(ALL, from_revision=revision)):
        take(change)
    there = {session.session_id: session for session in sessions.all()}
    assert known.keys() == there.keys()
    for session_id, snapshot in known.items():
        assert _as_told(snapshot) == _as_told(snapshot_of(there[session_id]))
    await sessions.stop(0)


def _as_told(snapshot: SessionSnapshot) -> tuple[object, ...]:
    return (
        snapshot.state,
        snapshot.phase,
        snapshot.queue_position,
        snapshot.options.tags,
        snapshot.end_time,
    )


async def test_a_session_is_added_before_it_is_changed(sessions: Sessions) -> None:
    watch = sessions.changes.watch(ALL)
    await news(watch)
    opened: list[Session] = [submit(sessions, idle) for _ in range(3)]
    await asyncio.sleep(0)
    found = await news(watch)
    assert kinds(found) == [ADDED] * 3
    assert {c.session.session_id for c in found if c.session} == {
        session.session_id for session in opened
    }
    await watch.aclose()
