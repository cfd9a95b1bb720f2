"""What is known of the roots: looked at, refreshed, told to watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from domains.changes import Signal, Told
from domains.device.core.facts import TransientFacts
from domains.errors import Reason
from domains.model.core import ModelCatalogue
from domains.model.errors import ModelNotFound
from domains.model.types import FileState
from domains.model.views import ModelEvent, ModelEventKind, ModelFilter
from tests.fakes.model import FakeScanner, contents_of, model

PATIENCE_SECONDS = 20.0


def now() -> datetime:
    return datetime.now(UTC)


class Watcher:
    """Reads events as they come, as kind and model."""

    def __init__(self, events: AsyncGenerator[Told[ModelEvent]]) -> None:
        self.events = events
        self.revision = 0

    async def read(self, count: int) -> list[tuple[str, str]]:
        found = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(count):
                told = await anext(self.events)
                self.revision = told.revision
                if isinstance(told.what, Signal):
                    found.append((told.what.value, ""))
                else:
                    found.append((told.what.kind.value, told.what.model.model_id))
        return found


async def test_watchers_are_told_what_is_there_and_each_change_in_order() -> None:
    scanner = FakeScanner(model("a"), model("b"))
    contents = contents_of(scanner, clock=now)
    catalogue = ModelCatalogue(contents, clock=now)
    watcher = Watcher(catalogue.watch())
    assert await watcher.read(3) == [("added", "a"), ("added", "b"), ("snapshot-end", "")]
    assert watcher.revision == catalogue.revision
    scanner.models = [model("b", size_bytes=5), model("c")]
    await contents.refresh()

    assert await watcher.read(3) == [("removed", "a"), ("added", "c"), ("changed", "b")]
    assert watcher.revision == catalogue.revision
    await watcher.events.aclose()


async def test_a_watcher_of_one_model_is_told_of_it_alone_and_refused_for_none() -> None:
    scanner = FakeScanner(model("a"), model("b", aliases=("bee",)))
    contents = contents_of(scanner, clock=now)
    catalogue = ModelCatalogue(contents, clock=now)
    watcher = Watcher(catalogue.watch("bee"))
    assert await watcher.read(2) == [("added", "b"), ("snapshot-end", "")]
    scanner.models = []
    await contents.refresh()

    assert await watcher.read(1) == [("removed", "b")]
    with pytest.raises(ModelNotFound):
        await anext(catalogue.watch("c"))
    await watcher.events.aclose()


async def test_who_comes_back_is_told_what_happened_meanwhile() -> None:
    scanner = FakeScanner(model("a"))
    contents = contents_of(scanner, clock=now)
    catalogue = ModelCatalogue(contents, clock=now)
    watcher = Watcher(catalogue.watch())
    await watcher.read(2)
    await watcher.events.aclose()
    scanner.models.append(model("b"))
    await contents.refresh()
    again = Watcher(catalogue.watch(from_revision=watcher.revision))

    assert await again.read(1) == [("added", "b")]
    await again.events.aclose()
    with pytest.raises(Exception, match="not kept") as failed:
        await anext(catalogue.watch(from_revision=1))
    assert failed.value.reason is Reason.EVENTS_EXPIRED  # type: ignore[attr-defined]


async def test_a_model_that_is_new_stays_new_for_a_watcher_that_is_slow() -> None:
    """Of more than eight changes that wait the newest takes the place of the one before."""
    scanner = FakeScanner()
    contents = contents_of(scanner, clock=now)
    await contents.refresh()
    watcher = Watcher(contents.changes.watch())
    await watcher.read(1)
    for size in range(20):
        scanner.models = [model("a", size_bytes=size)]
        await contents.refresh()
    told = await watcher.read(8)

    assert told[0] == ("added", "a")
    assert set(told[1:]) == {("changed", "a")}
    assert watcher.revision == contents.changes.revision
    await watcher.events.aclose()


async def test_a_refresh_looks_again_after_a_look_that_may_have_passed_the_place() -> None:
    scanner = FakeScanner(model("a"))
    contents = contents_of(scanner, clock=now)
    scanner.release.clear()
    under_way = asyncio.create_task(contents.look())
    await asyncio.to_thread(scanner.started.wait)
    scanner.models = [model("a"), model("b")]
    asked = [asyncio.create_task(contents.refresh()) for _ in range(3)]
    await asyncio.sleep(0)
    scanner.release.set()

    assert (await under_way).total_count == 1
    assert [(await one).total_count for one in asked] == [2, 2, 2]
    assert scanner.scans == 2


async def test_work_keeps_what_it_resolved_whatever_a_refresh_finds() -> None:
    scanner = FakeScanner(model("a"))
    contents = contents_of(scanner, clock=now)
    catalogue = ModelCatalogue(contents, clock=now)
    resolved = await catalogue.resolve("a")
    listed = await contents.known()
    scanner.models = []
    await contents.refresh()

    assert resolved.place == model("a").place
    assert list(listed) == ["a"]
    assert not await contents.known()


async def test_a_withdrawn_model_is_gone_whatever_looks_find_and_comes_back_after() -> None:
    contents = contents_of(FakeScanner(model("a"), model("b")), clock=now)
    catalogue = ModelCatalogue(contents, clock=now)
    assert (await catalogue.get("")).model_id == "a"
    with contents.withdrawn("a"):
        await contents.refresh()
        with pytest.raises(ModelNotFound):
            await catalogue.get("a")
        assert (await catalogue.get("")).model_id == "b"

    assert (await catalogue.get("")).model_id == "a"


async def test_a_chosen_default_outlives_the_server_until_the_setting_changes() -> None:
    facts = TransientFacts()
    scanner = FakeScanner(model("a"), model("b", aliases=("bee",)), model("c"))
    contents = contents_of(scanner, clock=now, facts=facts, default="bee")
    assert [m.model_id for m in (await contents.known()).values() if m.is_default] == ["b"]
    contents.choose_default("c")
    assert [m.model_id for m in contents.now().values() if m.is_default] == ["c"]

    for setting, chosen in (("bee", "c"), ("a", "a"), ("", "a")):
        again = contents_of(scanner, clock=now, facts=facts, default=setting)
        models = await again.known()
        assert [m.model_id for m in models.values() if m.is_default] == [chosen]


async def test_a_hash_that_becomes_known_is_a_change_of_that_model() -> None:
    known: dict[str, str] = {}
    scanner = FakeScanner(model("a"), model("b"))
    contents = contents_of(scanner, clock=now, sha256_of=lambda m: known.get(m.model_id, ""))
    catalogue = ModelCatalogue(contents, clock=now)
    await catalogue.list(ModelFilter())
    before = catalogue.revision
    known["b"] = "5" * 64
    contents.tell_hash("b")
    contents.tell_hash("gone")

    assert catalogue.revision == before + 1
    assert catalogue.sha256_of(model("b")) == "5" * 64
    assert catalogue.sha256_of(model("b", weights=(FileState("", 1, 2),))) == ""
    assert catalogue.sha256_of(model("a")) == ""
    scanner.models = [replace(one, is_default=False) for one in scanner.models]
    report = await contents.refresh()
    assert report.changed == ()
    assert catalogue.sha256_of(model("b")) == "5" * 64


async def test_events_of_others_are_told_in_the_same_row() -> None:
    """Main memory and devices have their own row of states and changes."""
    contents = contents_of(FakeScanner(model("a")), clock=now)
    (one,) = (await contents.known()).values()
    loaded = ModelEvent(ModelEventKind.LOADED, one, "cpu:0")
    contents.changes.add_state(lambda: [loaded])
    heard: list[ModelEvent] = []
    contents.changes.subscribe(heard.append)
    watcher = Watcher(contents.changes.watch())
    assert await watcher.read(3) == [("added", "a"), ("loaded", "a"), ("snapshot-end", "")]
    gone = replace(loaded, kind=ModelEventKind.UNLOADED)
    contents.changes.record(gone)

    assert await watcher.read(1) == [("unloaded", "a")]
    assert heard == [gone]
    await watcher.events.aclose()
