"""Watching changes: the state first, then what changes, from any revision that is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from domains.changes import Changes, ChangesExpired, Signal, Told
from domains.errors import Reason

MOMENT = datetime(2026, 7, 1, tzinfo=UTC)
Watch = AsyncGenerator[Told[str]]


def changes(**settings: object) -> Changes[str]:
    return Changes(now=lambda: MOMENT, **settings)  # type: ignore[arg-type]


def told(revision: int, what: str | Signal) -> Told[str]:
    return Told(revision, what, MOMENT)


async def read(watch: Watch, count: int) -> list[Told[str]]:
    async with asyncio.timeout(30):
        return [await anext(watch) for _ in range(count)]


async def test_the_state_comes_first_then_its_end_then_changes() -> None:
    hub = changes()
    hub.add("a", "a1")
    before = hub.revision
    watch = hub.watch(lambda: ["a1"])

    state = await read(watch, 2)
    hub.add("a", "a2")
    hub.add("b", "b1")

    assert state == [told(before, "a1"), told(before, Signal.SNAPSHOT_END)]
    assert await read(watch, 2) == [told(before + 1, "a2"), told(before + 2, "b1")]
    await watch.aclose()


async def test_a_client_that_was_away_is_told_what_it_missed_and_no_state() -> None:
    hub = changes()
    seen = hub.revision
    hub.add("a", "a1")
    hub.add("b", "b1")
    watch = hub.watch(lambda: ["never told"], from_revision=seen + 1)

    assert await read(watch, 1) == [told(seen + 2, "b1")]
    hub.add("a", "a2")
    assert await read(watch, 1) == [told(seen + 3, "a2")]
    await watch.aclose()


async def test_what_changes_while_missed_changes_are_read_comes_after_them() -> None:
    hub = changes()
    seen = hub.revision
    hub.add("a", "a1")
    hub.add("a", "a2")
    watch = hub.watch(list, from_revision=seen)

    first = await read(watch, 1)
    hub.add("a", "a3")

    assert [one.what for one in first + await read(watch, 2)] == ["a1", "a2", "a3"]
    await watch.aclose()


async def test_only_so_many_changes_are_kept() -> None:
    hub = changes(kept=3)
    begin = hub.revision
    for number in range(5):
        hub.add("a", f"a{number}")

    assert [change.what for change in hub.since(begin + 2)] == ["a2", "a3", "a4"]
    with pytest.raises(ChangesExpired) as refused:
        await anext(hub.watch(list, from_revision=begin + 1))
    assert refused.value.reason is Reason.EVENTS_EXPIRED
    assert refused.value.metadata == {
        "first_revision": str(begin + 2),
        "last_revision": str(begin + 5),
    }


async def test_a_revision_of_an_earlier_life_is_not_taken_for_one_of_this() -> None:
    before = Changes[str](now=lambda: MOMENT - timedelta(seconds=1))
    for number in range(10):
        before.add("a", f"a{number}")
    hub = changes()
    hub.add("a", "another")

    for revision in (before.revision, 1, -1, hub.revision + 1):
        with pytest.raises(ChangesExpired):
            hub.since(revision)


async def test_the_newest_revision_has_nothing_after_it() -> None:
    hub = changes(heartbeat_seconds=0.01)
    hub.add("a", "a1")
    watch = hub.watch(lambda: ["never told"], from_revision=hub.revision)

    assert await read(watch, 2) == [told(hub.revision, Signal.HEARTBEAT)] * 2
    await watch.aclose()


async def test_a_watcher_is_told_only_what_it_wants() -> None:
    hub = changes(heartbeat_seconds=0.01)
    hub.add("a", "a1")
    hub.add("b", "b1")

    def wanted(what: str) -> bool:
        return what.startswith("b")

    watch = hub.watch(lambda: ["a1", "b1"], wanted=wanted)
    assert [one.what for one in await read(watch, 2)] == ["b1", Signal.SNAPSHOT_END]

    hub.add("a", "a2")
    assert await read(watch, 1) == [told(hub.revision, Signal.HEARTBEAT)]
    hub.add("b", "b2")
    assert await read(watch, 1) == [told(hub.revision, "b2")]
    await watch.aclose()

    again = hub.watch(list, from_revision=hub.revision - 3, wanted=wanted)
    assert [one.what for one in await read(again, 2)] == ["b1", "b2"]
    await again.aclose()


async def test_a_slow_watcher_keeps_the_last_word_on_each_thing() -> None:
    hub = changes()
    watch = hub.watch(lambda: ["a", "b"])
    await read(watch, 1)  # and then it reads no more

    for number in range(1000):
        hub.add("a", f"a{number}")
    hub.add("b", "b1")

    got = await read(watch, 2 + 8 + 1)
    assert [one.what for one in got[:2]] == ["b", Signal.SNAPSHOT_END]
    assert [one.what for one in got[2:]] == [*(f"a{k}" for k in range(7)), "a999", "b1"]
    assert [one.revision for one in got] == sorted(one.revision for one in got)
    await watch.aclose()


async def test_what_is_told_instead_of_two_changes_can_be_said() -> None:
    hub = changes(merge=lambda older, newer: f"{older}+{newer}")
    watch = hub.watch(list)
    await read(watch, 1)

    for number in range(10):
        hub.add("a", str(number))

    assert [one.what for one in await read(watch, 8)][-1] == "7+8+9"
    await watch.aclose()


async def test_a_watch_that_ends_is_told_nothing_more() -> None:
    hub = changes()
    watch = hub.watch(list)
    await read(watch, 1)
    waiting = asyncio.create_task(anext(watch))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    hub.add("a", "a1")

    with pytest.raises(StopAsyncIteration):
        await anext(watch)
