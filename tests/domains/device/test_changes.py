"""Watching devices: what is told, in which order, and to whoever is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import pytest

from domains.device.core.inbox import Inbox
from domains.device.errors import DeviceNotFound
from domains.device.types import DeviceEvent, DeviceEventKind, DeviceReport, DeviceState
from tests.domains.device.conftest import Domain
from tests.fakes.device import FakeProbe, card
from tests.fakes.device_runs import MOMENT

Kind = DeviceEventKind


class Watcher:
    """Reads events as they come."""

    def __init__(self, events: AsyncGenerator[DeviceEvent]) -> None:
        self.events = events

    async def read(self, count: int) -> list[tuple[str, str]]:
        """The next events, as kind and device."""
        found = []
        for _ in range(count):
            async with asyncio.timeout(5):
                event = await anext(self.events)
            device_id = event.report.device.device_id if event.report else ""
            found.append((event.kind.value, device_id))
        return found


@pytest.fixture
async def watch(domain: Domain) -> AsyncIterator[Callable[..., Watcher]]:
    """Starts watchers, and ends them."""
    started: list[Watcher] = []

    def begin(name: str = "") -> Watcher:
        started.append(Watcher(domain.service.changes.watch(name)))
        return started[-1]

    await domain.service.inventory.discover()
    yield begin
    for watcher in started:
        await watcher.events.aclose()


async def test_a_lost_worker_that_is_replaced_is_lost_and_recovered(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    assert await watcher.read(2) == [("added", "cuda:0"), ("added", "cpu:0")]

    domain.runs.change("cuda:0", DeviceState.RECOVERING, "it was killed")
    domain.runs.change("cuda:0", DeviceState.READY)

    assert await watcher.read(2) == [("lost", "cuda:0"), ("recovered", "cuda:0")]


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["RECOVERING", "QUARANTINED", "READY"], ["lost", "quarantined", "recovered"]),
        (["QUARANTINED", "RECOVERING", "READY"], ["quarantined", "changed", "recovered"]),
        (["STARTING", "READY"], ["changed", "changed"]),
        (["UNAVAILABLE"], ["changed"]),
    ],
)
async def test_each_way_through_the_states_is_told(
    domain: Domain, watch: Callable[..., Watcher], states: list[str], told: list[str]
) -> None:
    watcher = watch("cpu")
    await watcher.read(1)

    for state in states:
        domain.runs.change("cpu:0", DeviceState[state])

    assert [kind for kind, _ in await watcher.read(len(told))] == told


async def test_a_card_that_vanishes_is_lost_and_one_that_appears_is_added(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    await watcher.read(2)
    domain.probe.adapters = [card(0, hardware_id="GPU-2")]
    domain.workers.set("cuda:0", DeviceState.UNAVAILABLE)

    await domain.service.inventory.discover()

    assert sorted(await watcher.read(2)) == [("added", "cuda:1"), ("lost", "cuda:0")]
    domain.probe.adapters = [card(0, hardware_id="GPU-1"), card(1, hardware_id="GPU-2")]
    domain.workers.set("cuda:0", DeviceState.READY)
    await domain.service.inventory.discover()
    assert ("recovered", "cuda:0") in await watcher.read(2)


async def test_another_default_changes_both_devices(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    await watcher.read(2)

    await domain.service.inventory.set_default("cpu")

    assert sorted(await watcher.read(2)) == [("changed", "cpu:0"), ("changed", "cuda:0")]


async def test_watching_one_device_tells_of_no_other(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch("GPU")
    assert await watcher.read(1) == [("added", "cuda:0")]

    domain.runs.change("cpu:0", DeviceState.RECOVERING)
    domain.runs.change("cuda:0", DeviceState.QUARANTINED)

    assert await watcher.read(1) == [("quarantined", "cuda:0")]


async def test_a_device_that_is_not_there_cannot_be_watched(
    watch: Callable[..., Watcher],
) -> None:
    with pytest.raises(DeviceNotFound):
        await watch("xpu:0").read(1)


async def test_devices_found_while_watching_are_added(
    make_domain: Callable[..., Domain],
) -> None:
    domain = make_domain(probe=FakeProbe(card(0), held=True))
    watcher = Watcher(domain.service.changes.watch())
    assert await watcher.read(1) == [("added", "cpu:0")]

    domain.probe.release.set()
    await domain.service.inventory.discover()

    assert await watcher.read(1) == [("added", "cuda:0")]
    await watcher.events.aclose()


async def test_silence_is_told_and_ends_with_the_watching(
    make_domain: Callable[..., Domain],
) -> None:
    domain = make_domain(heartbeat_seconds=0.01)
    await domain.service.inventory.discover()
    watcher = Watcher(domain.service.changes.watch("cpu"))

    assert await watcher.read(3) == [("added", "cpu:0"), ("heartbeat", ""), ("heartbeat", "")]
    await watcher.events.aclose()
    domain.runs.change("cpu:0", DeviceState.RECOVERING)  # nobody is told any more


async def reports(domain: Domain) -> dict[str, DeviceReport]:
    await domain.service.inventory.discover()
    return {report.device.device_id: report for report in domain.service.inventory.reports()}


async def test_a_slow_watcher_keeps_the_last_word_on_each_device(domain: Domain) -> None:
    device = await reports(domain)
    inbox = Inbox([DeviceEvent(Kind.ADDED, MOMENT, device["cpu:0"])])
    for _ in range(1000):
        inbox.put(DeviceEvent(Kind.LOST, MOMENT, device["cuda:0"]))
        inbox.put(DeviceEvent(Kind.RECOVERED, MOMENT, device["cuda:0"]))
    inbox.put(DeviceEvent(Kind.QUARANTINED, MOMENT, device["cpu:0"]))

    events = inbox.take()

    assert len(events) == 10
    assert events[0].kind is Kind.ADDED
    assert [e.kind for e in events[-2:]] == [Kind.RECOVERED, Kind.QUARANTINED]
    assert inbox.take() == []


async def test_that_a_device_is_new_is_never_lost(domain: Domain) -> None:
    device = (await reports(domain))["cuda:0"]
    inbox = Inbox([DeviceEvent(Kind.ADDED, MOMENT, device)] * 8)

    inbox.put(DeviceEvent(Kind.CHANGED, MOMENT, device))

    assert {event.kind for event in inbox.take()} == {Kind.ADDED}
