"""Lists of sessions: newest first, filtered, paged by what names a session."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.errors import InvalidArgument, Reason
from domains.processing.core.lists import SessionLists
from domains.session.core.sessions import Sessions
from domains.session.types import Priority, SessionKind, SessionState, WorkOptions
from domains.session.views import SessionFilter, Viewer
from tests.clocks import SteeredTime
from tests.domains.processing.conftest import ADMIN, MARY, OneDevice
from tests.domains.session.conftest import finish, idle, registry, submit
from tests.domains.session.test_queue import Device
from tests.domains.sessions import until_final

ALL = SessionFilter()


def listed(
    lists: SessionLists, wanted: SessionFilter = ALL, viewer: Viewer = ADMIN
) -> list[str]:
    page = lists.sessions(wanted, viewer, page_size=0, page_token="").page
    return [snapshot.session_id for snapshot in page.items]


async def test_each_part_of_a_filter_filters(
    sessions: Sessions, lists: SessionLists, clock: SteeredTime
) -> None:
    high = WorkOptions(priority=Priority.HIGH, tags=("a", "b"))
    old = submit(sessions, idle)
    clock.move(10)
    middle = clock.moment
    new = submit(sessions, idle, high, device_id="cuda:0", owner="mary")
    await asyncio.sleep(0)
    finish(new)
    ids = [new.session_id, old.session_id]
    for wanted, expected in (
        (ALL, ids),
        (SessionFilter(kinds=frozenset({SessionKind.GENERATION})), ids),
        (SessionFilter(kinds=frozenset({SessionKind.BATCH})), []),
        (SessionFilter(states=frozenset({SessionState.COMPLETED})), ids[:1]),
        (SessionFilter(device_id="cuda:0"), ids[:1]),
        (SessionFilter(tags=("b",)), ids[:1]),
        (SessionFilter(parent_session_id="p"), []),
        (SessionFilter(owner="mary"), ids[:1]),
        (SessionFilter(priority=Priority.NORMAL), ids[1:]),
        (SessionFilter(model_id="model"), ids),
        (SessionFilter(model_id="other"), []),
        (SessionFilter(created_after=middle), ids[:1]),
        (SessionFilter(created_before=middle), ids[1:]),
        (SessionFilter(created_before=middle - timedelta(seconds=10)), []),
    ):
        assert listed(lists, wanted) == expected, wanted


async def test_everybody_sees_what_is_theirs(sessions: Sessions, lists: SessionLists) -> None:
    mine = submit(sessions, idle, WorkOptions(request_id="mine"), owner="mary")
    theirs = submit(sessions, idle, WorkOptions(request_id="theirs"), owner="john")
    assert listed(lists, viewer=MARY) == [mine.session_id]
    assert listed(lists, SessionFilter(owner="john"), MARY) == []
    assert listed(lists) == [theirs.session_id, mine.session_id]
    page = lists.sessions(ALL, MARY, page_size=0, page_token="").page
    assert page.total_count == 1
    assert page.items[0].options.request_id == "mine"
    everything = lists.sessions(ALL, ADMIN, page_size=0, page_token="").page
    assert {item.options.request_id for item in everything.items} == {""}


async def test_a_list_says_which_change_it_shows_last(
    sessions: Sessions, lists: SessionLists
) -> None:
    session = submit(sessions, idle)
    await asyncio.sleep(0)
    revision = lists.sessions(ALL, ADMIN, page_size=0, page_token="").revision
    finish(session)
    watch = lists.watch(ALL, ADMIN, from_revision=revision)
    change = await anext(watch)
    assert change.session is not None
    assert change.session.state is SessionState.COMPLETED
    await watch.aclose()


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (SessionFilter(tags=("x",) * 33), "filter.tags"),
        (SessionFilter(device_id="a/b"), "filter.device_id"),
        (SessionFilter(owner="a b"), "filter.owner"),
        (SessionFilter(model_id="../x"), "filter.model_id"),
    ],
)
async def test_a_filter_that_breaks_a_rule_is_refused(
    lists: SessionLists, wanted: SessionFilter, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        listed(lists, wanted)
    assert refusal.value.violations[0].field == field
    with pytest.raises(InvalidArgument):
        lists.watch(wanted, ADMIN, from_revision=0)


async def test_a_token_is_good_for_its_list_its_caller_and_this_run_of_the_server(
    sessions: Sessions, lists: SessionLists, clock: SteeredTime
) -> None:
    for _ in range(2):
        submit(sessions, idle, owner="mary")
    token = lists.sessions(ALL, MARY, page_size=1, page_token="").page.next_page_token
    clock.move(1)
    restarted = SessionLists(registry(clock, 3), OneDevice())
    for other, wanted, viewer in (
        (lists, SessionFilter(tags=("odd",)), MARY),
        (lists, ALL, ADMIN),
        (restarted, ALL, MARY),
    ):
        with pytest.raises(InvalidArgument):
            other.sessions(wanted, viewer, page_size=1, page_token=token)
    assert len(lists.sessions(ALL, MARY, page_size=1, page_token=token).page.items) == 1


@given(seed=st.integers(0, 2**32), count=st.integers(0, 12), page_size=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_session_is_repeated_or_skipped_while_others_come_and_go(
    seed: int, count: int, page_size: int
) -> None:
    asyncio.run(_page_through(random.Random(seed), count, page_size))


async def _page_through(moves: random.Random, count: int, page_size: int) -> None:
    clock = SteeredTime()
    sessions = registry(clock, 100)
    lists = SessionLists(sessions, OneDevice())
    opened = []

    def open_one() -> None:
        opened.append(submit(sessions, idle))

    for _ in range(count):
        open_one()
    await asyncio.sleep(0)
    at_first = [session.session_id for session in reversed(opened)]
    forgotten: set[str] = set()
    seen: list[str] = []
    token, first = "", True
    while token or first:
        first = False
        page = lists.sessions(ALL, ADMIN, page_size=page_size, page_token=token).page
        seen += [snapshot.session_id for snapshot in page.items]
        token = page.next_page_token
        for _ in range(moves.randrange(3)):
            open_one()
        if moves.randrange(2) and opened:
            gone = opened.pop(moves.randrange(len(opened)))
            gone.cancel()
            sessions.forget(gone)
            forgotten.add(gone.session_id)
    assert len(set(seen)) == len(seen)
    kept = [session_id for session_id in at_first if session_id not in forgotten]
    assert [session_id for session_id in seen if session_id not in forgotten] == kept
    await sessions.stop(0)


async def test_a_queue_is_in_the_order_in_which_it_will_be_worked_on(
    roomy: Sessions,
) -> None:
    sessions, lists, device = roomy, SessionLists(roomy, OneDevice()), Device()
    submit(sessions, device.work)
    await device.started.wait()
    low = submit(sessions, device.work, WorkOptions(priority=Priority.LOW), owner="mary")
    normal = submit(sessions, device.work, owner="john")
    paused = submit(sessions, device.work, owner="john")
    sessions.pause(paused, "", "")

    found = await lists.queue("", ADMIN, page_size=0, page_token="")
    assert [item.session_id for item in found.page.items] == [
        normal.session_id,
        low.session_id,
    ]
    assert [item.queue_position for item in found.page.items] == [1, 2]
    mine = await lists.queue("gpu", MARY, page_size=0, page_token="")
    assert [item.session_id for item in mine.page.items] == [low.session_id]
    assert mine.waiting == 2
    device.release.set()
    await until_final(low)


async def test_pages_of_a_queue_go_on_after_the_last_one(
    sessions: Sessions, lists: SessionLists
) -> None:
    device = Device()
    submit(sessions, device.work)
    await device.started.wait()
    waiting = [submit(sessions, device.work) for _ in range(3)]
    first = (await lists.queue("", ADMIN, page_size=2, page_token="")).page
    token = first.next_page_token
    # What was last moves up, and is next now.
    sessions.update(waiting[2], replace(waiting[2].options, priority=Priority.HIGH))
    second = (await lists.queue("", ADMIN, page_size=2, page_token=token)).page
    assert [item.session_id for item in first.items] == [
        session.session_id for session in waiting[:2]
    ]
    assert second.items == ()
    waiting[1].request_cancel(Reason.CANCELLED_BY_CLIENT)
    again = (await lists.queue("", ADMIN, page_size=2, page_token=token)).page
    assert [item.session_id for item in again.items] == [
        waiting[2].session_id,
        waiting[0].session_id,
    ]
    device.release.set()
