"""Watching devices: what is told, in which order, and to whoever is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import pytest

from domains.changes import Signal, Told
from domains.device.errors import DeviceNotFound
from domains.device.types import DeviceEvent, DeviceState
from domains.errors import Reason, ResourceExhausted
from tests.domains.device.conftest import Domain
from tests.fakes.device import FakeProbe, card

END = ("snapshot-end", "")


class Watcher:
    """Reads events as they come."""

    def __init__(self, events: AsyncGenerator[Told[DeviceEvent]]) -> None:
        self.events = events

    async def read(self, count: int) -> list[tuple[str, str]]:
        """The next events, as kind and device."""
        found = []
        for _ in range(count):
            what = (await self.told()).what
            if isinstance(what, Signal):
                found.append((what.value, ""))
            else:
                found.append((what.kind.value, what.report.device.device_id))
        return found

    async def told(self) -> Told[DeviceEvent]:
        """The next message."""
        async with asyncio.timeout(30):
            return await anext(self.events)


@pytest.fixture
async def watch(domain: Domain) -> AsyncIterator[Callable[..., Watcher]]:
    """Starts watchers, and ends them."""
    started: list[Watcher] = []

    def begin(name: str = "", from_revision: int = 0) -> Watcher:
        events = domain.service.changes.watch(name, from_revision=from_revision)
        started.append(Watcher(events))
        return started[-1]

    await domain.service.inventory.discover()
    yield begin
    for watcher in started:
        await watcher.events.aclose()


async def test_a_lost_worker_that_is_replaced_is_lost_and_recovered(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    assert await watcher.read(3) == [
        ("added", "cuda:0"),
        ("added", "cpu:0"),
        END,
    ]

    domain.runs.change("cuda:0", DeviceState.RECOVERING, "it was killed")
    domain.runs.change("cuda:0", DeviceState.READY)

    assert await watcher.read(2) == [("lost", "cuda:0"), ("recovered", "cuda:0")]


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["RECOVERING", "QUARANTINED", "READY"], ["lost", "quarantined", "recovered"]),
        (["QUARANTINED", "RECOVERING", "READY"], ["quarantined", "changed", "recovered"]),
        (["STARTING", "READY"], ["changed", "changed"]),
        (["RECOVERING", "STARTING", "READY"], ["lost", "changed", "recovered"]),
        (["UNAVAILABLE"], ["changed"]),
    ],
)
async def test_each_way_through_the_states_is_told(
    domain: Domain, watch: Callable[..., Watcher], states: list[str], told: list[str]
) -> None:
    watcher = watch("cpu")
    await watcher.read(2)

    for state in states:
        domain.runs.change("cpu:0", DeviceState[state])

    assert [kind for kind, _ in await watcher.read(len(told))] == told


async def test_a_card_that_vanishes_is_lost_and_one_that_appears_is_added(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    await watcher.read(3)
    domain.probe.adapters = [card(0, hardware_id="GPU-2")]
    domain.workers.set("cuda:0", DeviceState.UNAVAILABLE)

    await domain.service.inventory.discover()

    assert sorted(await watcher.read(2)) == [("added", "cuda:1"), ("lost", "cuda:0")]
    domain.probe.adapters = [card(0, hardware_id="GPU-1"), card(1, hardware_id="GPU-2")]
    domain.workers.set("cuda:0", DeviceState.READY)
    await domain.service.inventory.discover()
    assert ("recovered", "cuda:0") in await watcher.read(2)


async def test_a_card_that_was_away_since_an_earlier_run_recovers(domain: Domain) -> None:
    await domain.service.inventory.discover()
    domain.probe.adapters = []
    domain.workers.set("cuda:0", DeviceState.UNAVAILABLE)
    domain.service = domain.build()
    await domain.service.inventory.discover()
    watcher = Watcher(domain.service.changes.watch("cuda:0"))
    await watcher.read(2)

    domain.probe.adapters = [card(0, hardware_id="GPU-1")]
    domain.workers.set("cuda:0", DeviceState.STARTING)
    await domain.service.inventory.discover()
    domain.runs.change("cuda:0", DeviceState.READY)

    assert await watcher.read(2) == [("changed", "cuda:0"), ("recovered", "cuda:0")]
    await watcher.events.aclose()


async def test_another_default_changes_both_devices(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    await watcher.read(3)

    await domain.service.inventory.set_default("cpu")

    assert sorted(await watcher.read(2)) == [("changed", "cpu:0"), ("changed", "cuda:0")]


async def test_a_default_that_no_disk_takes_holds_and_is_told(
    domain: Domain, watch: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = watch()
    await watcher.read(3)
    put = domain.facts.put

    def full(key: str, value: bytes) -> None:
        put(key, value)  # it is known all the same
        raise ResourceExhausted("The disk is full.", reason=Reason.DISK_FULL)

    monkeypatch.setattr(domain.facts, "put", full)
    with pytest.raises(ResourceExhausted):
        await domain.service.inventory.set_default("cpu")

    assert sorted(await watcher.read(2)) == [("changed", "cpu:0"), ("changed", "cuda:0")]


async def test_watching_one_device_tells_of_no_other(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch("GPU")
    assert await watcher.read(2) == [("added", "cuda:0"), END]

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
    assert await watcher.read(2) == [("added", "cpu:0"), END]

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

    silence = ("heartbeat", "")
    assert await watcher.read(4) == [("added", "cpu:0"), END, silence, silence]
    await watcher.events.aclose()
    domain.runs.change("cpu:0", DeviceState.RECOVERING)  # nobody is told any more


async def test_a_loss_and_a_quarantine_say_why(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch("GPU")
    await watcher.read(2)

    domain.runs.change("cuda:0", DeviceState.RECOVERING, "It was killed by SIGKILL.")
    domain.runs.change("cuda:0", DeviceState.QUARANTINED, "It was killed by SIGKILL.")
    domain.runs.change("cuda:0", DeviceState.READY)
    domain.probe.adapters = []
    domain.workers.set("cuda:0", DeviceState.UNAVAILABLE)
    await domain.service.inventory.discover()

    events = [(await watcher.told()).what for _ in range(4)]
    causes = [event.cause for event in events if isinstance(event, DeviceEvent)]
    assert [cause and cause.reason for cause in causes] == [
        Reason.WORKER_LOST,
        Reason.DEVICE_QUARANTINED,
        None,
        Reason.DEVICE_LOST,
    ]
    assert all("SIGKILL" in cause.message for cause in causes[:2] if cause)
    assert all(cause.metadata == {"device_id": "cuda:0"} for cause in causes if cause)


async def test_a_watcher_goes_on_where_it_stopped(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    await watcher.read(3)
    domain.runs.change("cuda:0", DeviceState.RECOVERING)
    seen = (await watcher.told()).revision
    await watcher.events.aclose()

    domain.runs.change("cuda:0", DeviceState.READY)
    domain.runs.change("cpu:0", DeviceState.RECOVERING)

    again = watch(from_revision=seen)
    assert await again.read(2) == [("recovered", "cuda:0"), ("lost", "cpu:0")]
    of_one = watch("cpu", from_revision=seen)
    assert await of_one.read(1) == [("lost", "cpu:0")]


async def test_a_list_has_the_revision_of_what_it_shows(domain: Domain) -> None:
    await domain.service.inventory.discover()
    before = domain.service.changes.revision()

    # Nobody is told of this one; it counts all the same.
    domain.workers.set("cuda:0", DeviceState.RECOVERING)

    assert domain.service.changes.revision() == before + 1
    assert domain.service.changes.revision() == before + 1


async def test_that_a_device_is_new_is_never_lost(
    domain: Domain, watch: Callable[..., Watcher]
) -> None:
    watcher = watch()
    await watcher.read(3)
    domain.probe.adapters = [card(0, hardware_id="GPU-1"), card(1, hardware_id="GPU-2")]
    await domain.service.inventory.discover()
    for _ in range(10):
        domain.runs.change("cuda:1", DeviceState.RECOVERING)
        domain.runs.change("cuda:1", DeviceState.READY)

    told = await watcher.read(8)

    assert told[0] == ("added", "cuda:1")
    assert told[-1] == ("recovered", "cuda:1")
