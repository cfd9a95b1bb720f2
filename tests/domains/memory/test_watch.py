"""Watching memory, and what gives way when it is tight."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

import pytest
from msgspec.structs import replace

from domains.device.errors import DeviceNotFound
from domains.device.types import DeviceState
from domains.errors import Reason
from domains.memory.core import errands
from domains.memory.errors import InvalidMemoryRequest, WorkRefused
from domains.memory.types import Heartbeat, MemoryStatus, Place, Pressure, PressureLevel
from domains.session.core.plan import SessionRequest
from domains.session.core.session import Session
from domains.session.types import Outcome, SessionKind, SessionState, WorkOptions
from domains.values import ByteFigure
from tests.domains.memory.conftest import CARD, CPU, HOST, OTHER_CARD, System
from tests.domains.session.conftest import plan, unprepared

NORMAL, ELEVATED, HIGH, CRITICAL = PressureLevel
GIB = 1 << 30


def levels(system: System) -> dict[Place, PressureLevel]:
    return {p.place: p.level for p in system.service.watch.pressures()}


async def test_every_place_has_its_own_pressure(system: System) -> None:
    system.meter.tell("cuda:0", 100, 8)

    told = await system.service.watch.ask()

    assert {p.place: (p.level, round(p.used_share, 3)) for p in told} == {
        HOST: (NORMAL, 0.25),
        CPU: (NORMAL, 0.25),
        CARD: (HIGH, 0.92),
        OTHER_CARD: (NORMAL, 0.0),
    }
    asked = await system.service.watch.ask("gpu")
    assert [p.place for p in asked] == [HOST, CARD]
    with pytest.raises(DeviceNotFound):
        await system.service.watch.ask("mps:0")


async def test_a_place_that_nobody_can_read_has_no_pressure(system: System) -> None:
    system.meter.tell("cuda:0", 100, 1)
    await system.service.watch.sample()
    assert levels(system)[CARD] is CRITICAL
    untold = replace(system.meter.known["cuda:0"], free=ByteFigure.unknown("it will not say"))
    system.meter.known["cuda:0"] = untold

    await system.service.watch.sample()

    assert CARD not in levels(system)
    assert system.service.watch.level(CARD) is NORMAL


async def test_a_level_keeps_the_time_at_which_it_began(system: System) -> None:
    watch, time = system.service.watch, system.time
    (first, *_) = await watch.ask()
    time.move(10)
    (same, *_) = await watch.ask()
    system.host.use(0.81)
    (changed, *_) = await watch.ask()
    time.move(10)
    system.host.use(0.76)  # not below where it ends
    (still, *_) = await watch.ask()

    assert same.since_time == first.since_time
    assert changed.since_time == still.since_time == first.since_time + timedelta(seconds=10)
    assert (changed.level, still.level) == (ELEVATED, ELEVATED)


async def take(
    stream: AsyncGenerator[MemoryStatus | Pressure | Heartbeat], count: int
) -> list[MemoryStatus | Pressure | Heartbeat]:
    async with asyncio.timeout(30):
        return [await anext(stream) for _ in range(count)]


async def test_a_stream_begins_with_pressure_and_goes_on_with_figures(system: System) -> None:
    async with aclosing(system.service.watch.stream("gpu", interval=0.1)) as stream:
        items = await take(stream, 4)

    assert [type(item) for item in items] == [Pressure, Pressure, MemoryStatus, MemoryStatus]
    (status,) = [item for item in items if isinstance(item, MemoryStatus)][:1]
    assert [memory.device_id for memory in status.devices] == ["cuda:0"]


async def test_a_change_while_the_beginning_is_told_is_told_after_it(system: System) -> None:
    async with aclosing(system.service.watch.stream("gpu", pressure_only=True)) as stream:
        await take(stream, 1)
        system.meter.tell("cuda:0", 100, 1)
        await system.service.watch.sample()

        told = await take(stream, 2)

    assert [(p.place, p.level) for p in told if isinstance(p, Pressure)] == [
        (CARD, NORMAL),
        (CARD, CRITICAL),
    ]


async def test_a_watch_stays_with_its_device_when_the_alias_means_another_one(
    system: System,
) -> None:
    async with aclosing(system.service.watch.stream("gpu", interval=0.1)) as stream:
        await take(stream, 3)
        system.probe.adapters = system.probe.adapters[1:]
        system.workers.set("cuda:0", DeviceState.LOST, "It was pulled.")
        await system.inventory.discover()
        assert (await system.inventory.resolve("gpu")).device_id == "cuda:1"

        (status,) = await take(stream, 1)

    assert isinstance(status, MemoryStatus)
    assert [memory.device_id for memory in status.devices] == ["cuda:0"]


async def test_watches_at_the_same_time_share_one_reading(system: System) -> None:
    watch = system.service.watch
    streams = [watch.stream("gpu", interval=0.1) for _ in range(20)]
    try:
        taken = [await take(stream, 3) for stream in streams]
        later = [await take(stream, 1) for stream in streams]
    finally:
        for stream in streams:
            await stream.aclose()
    assert len({id(items[-1]) for items in taken}) < 10
    assert len({id(items[-1]) for items in later}) < 10


async def test_with_very_many_watches_each_gets_figures_more_rarely(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domains.memory.core.watch._MOST_READINGS_PER_SECOND", 0.001)
    async with aclosing(system.service.watch.stream("gpu", interval=0.1)) as stream:
        await take(stream, 3)
        waiting = asyncio.create_task(take(stream, 1))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert not done


async def test_a_watch_that_ends_does_not_end_what_others_wait_for(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = system.service.watch
    asked, answer = asyncio.Event(), asyncio.Event()
    real = watch._monitor.status

    async def slow(device: str = "") -> MemoryStatus:
        asked.set()
        await answer.wait()
        return await real(device)

    monkeypatch.setattr(watch._monitor, "status", slow)
    first, second = (watch.stream("gpu", interval=0.1) for _ in range(2))
    for stream in (first, second):
        await take(stream, 2)
    reading = [asyncio.create_task(take(stream, 1)) for stream in (first, second)]
    await asyncio.wait_for(asked.wait(), 30)
    reading[0].cancel()
    await asyncio.gather(reading[0], return_exceptions=True)
    answer.set()
    assert isinstance((await reading[1])[0], MemoryStatus)
    for stream in (first, second):
        await stream.aclose()


async def test_a_change_is_told_at_once_and_of_the_asked_places_only(system: System) -> None:
    watch = system.service.watch
    async with aclosing(watch.stream("cuda:1", interval=3600, pressure_only=True)) as stream:
        await take(stream, 2)
        system.meter.tell("cuda:0", 100, 1)
        system.meter.tell("cuda:1", 100, 15)
        waiting = asyncio.create_task(take(stream, 1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await watch.sample()
        (change,) = await waiting

    assert isinstance(change, Pressure)
    assert (change.place, change.level) == (OTHER_CARD, ELEVATED)


async def test_silence_has_heartbeats_whether_figures_come_or_not(system: System) -> None:
    watch = system.service.watch
    watch.heartbeat_seconds = 0.01
    for pressure_only in (True, False):
        stream = watch.stream("cuda:1", interval=3600, pressure_only=pressure_only)
        async with aclosing(stream):
            first = await take(stream, 2 if pressure_only else 3)
            silent = await take(stream, 2)
            system.meter.tell("cuda:1", 100, 15 if pressure_only else 1)
            await watch.sample()
            while isinstance((change := (await take(stream, 1))[0]), Heartbeat):
                pass

        assert not any(isinstance(item, Heartbeat) for item in first)
        assert silent == [Heartbeat(system.time.moment)] * 2
        assert isinstance(change, Pressure)


async def test_figures_that_come_in_time_need_no_heartbeat(system: System) -> None:
    watch = system.service.watch
    watch.heartbeat_seconds = 5.0
    async with aclosing(watch.stream("cuda:1", interval=0.1)) as stream:
        items = await take(stream, 6)

    assert not any(isinstance(item, Heartbeat) for item in items)


async def test_a_change_does_not_wait_for_the_next_figures(system: System) -> None:
    watch = system.service.watch
    async with aclosing(watch.stream("cuda:1", interval=3600)) as stream:
        await take(stream, 3)
        system.meter.tell("cuda:1", 100, 15)
        await watch.sample()
        (change,) = await take(stream, 1)

    assert isinstance(change, Pressure)


async def test_a_stream_that_ends_is_listened_for_no_more(system: System) -> None:
    stream = system.service.watch.stream()
    await anext(stream)
    assert len(system.service.watch._listeners) == 1
    await stream.aclose()

    assert system.service.watch._listeners == []


@pytest.mark.parametrize("interval", [0.0, 0.09, 3601.0, -1.0])
async def test_intervals_have_limits(system: System, interval: float) -> None:
    with pytest.raises(InvalidMemoryRequest) as refused:
        await anext(system.service.watch.stream(interval=interval))

    assert refused.value.reason is Reason.FIELD_OUT_OF_RANGE


async def test_a_stream_of_a_missing_device_is_an_error(system: System) -> None:
    with pytest.raises(DeviceNotFound):
        await anext(system.service.watch.stream("mps:0"))


# Reactions.


def hold_three(system: System) -> None:
    """Two that were not used for a while, one that was just now; one more is in use."""
    now = system.time.moment
    for minutes, model_id in ((5, "older"), (9, "oldest"), (0, "fresh")):
        used = now - timedelta(minutes=minutes)
        system.models.hold("cuda:0", model_id, 10, used=used)
    system.models.hold("cuda:0", "drawing", 10, used=now - timedelta(hours=1), in_use=True)
    system.models.hold("cuda:1", "elsewhere", 10, used=now - timedelta(hours=1))


async def test_without_pressure_nothing_gives_way(system: System) -> None:
    hold_three(system)
    await system.service.watch.sample()

    assert await system.reactions.relieve() == ()


async def test_elevated_lets_one_idle_model_go_at_a_time(system: System) -> None:
    hold_three(system)
    system.meter.tell("cuda:0", 100, 15)
    await system.service.watch.sample()
    relieve = system.reactions.relieve

    assert [await relieve() for _ in range(3)] == [("oldest",), ("older",), ()]


@pytest.mark.parametrize("jump", [3600.0, 8 * 86400.0, -3600.0])
async def test_setting_the_clock_makes_a_model_neither_idle_nor_busy(
    system: System, jump: float
) -> None:
    hold_three(system)
    system.meter.tell("cuda:0", 100, 15)
    await system.service.watch.sample()
    relieve = system.reactions.relieve
    assert [await relieve() for _ in range(3)] == [("oldest",), ("older",), ()]
    system.time.set_wall(jump)

    assert await relieve() == ()
    system.time.move(31)
    assert await relieve() == ("fresh",)


async def test_high_lets_every_idle_model_go(system: System) -> None:
    hold_three(system)
    system.meter.tell("cuda:0", 100, 9)
    await system.service.watch.sample()

    assert await system.reactions.relieve() == ("oldest", "older", "fresh")
    assert {one.component.model_id for one in system.models.components} == {
        "drawing",
        "elsewhere",
    }


async def test_a_worker_that_cannot_answer_is_asked_again_later(system: System) -> None:
    hold_three(system)
    system.meter.tell("cuda:0", 100, 9)
    await system.service.watch.sample()
    system.models.busy = True
    assert await system.reactions.relieve() == ()
    system.models.busy = False

    assert await system.reactions.relieve() == ("oldest", "older", "fresh")


async def test_a_worker_that_draws_for_long_keeps_no_other_memory_from_relief(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "_PATIENCE_SECONDS", 0.01)
    hold_three(system)
    for device_id in ("cuda:0", "cuda:1"):
        system.meter.tell(device_id, 100, 15)
    await system.service.watch.sample()
    drawing = system.models.drawing["cuda:0"] = asyncio.Event()
    relieve = system.reactions.relieve

    async with asyncio.timeout(10):
        assert await relieve() == ("elsewhere",)
        used = system.time.moment - timedelta(hours=1)
        system.models.hold("cuda:1", "another", 10, used=used)
        assert await relieve() == ("another",)
        drawing.set()
        await asyncio.sleep(0.01)
        assert [await relieve() for _ in range(3)] == [("oldest",), ("older",), ()]


async def test_critical_refuses_new_work_there_and_takes_what_frees(system: System) -> None:
    system.meter.tell("cuda:0", 100, 4)
    await system.service.watch.sample()
    here, elsewhere = plan("cuda:0"), plan("cuda:1")

    async def nothing(session: object) -> None:
        return None

    asked = SessionRequest(WorkOptions(), b"", unprepared)
    with pytest.raises(WorkRefused) as refused:
        system.sessions.open(here, nothing, asked)
    assert refused.value.reason is Reason.DEVICE_OUT_OF_MEMORY
    assert refused.value.retry_after
    assert system.sessions.all() == ()
    system.sessions.open(elsewhere, nothing, asked)
    freeing = dataclasses.replace(here, kind=SessionKind.MEMORY_TASK)
    system.sessions.open(freeing, nothing, asked)
    system.host.use(0.97)
    await system.service.watch.sample()
    with pytest.raises(WorkRefused) as everywhere:
        system.sessions.open(elsewhere, nothing, asked)
    assert everywhere.value.reason is Reason.HOST_OUT_OF_MEMORY


async def test_work_that_waits_begins_once_pressure_has_passed(system: System) -> None:
    first_may_end, second_begun = asyncio.Event(), asyncio.Event()

    async def first(session: Session) -> None:
        session.start(lambda: None)
        await first_may_end.wait()
        session.complete(Outcome())

    async def second(session: Session) -> None:
        second_begun.set()
        session.start(lambda: None)
        session.complete(Outcome())

    asked = SessionRequest(WorkOptions(), b"", unprepared)
    system.sessions.open(plan("cuda:0"), first, asked)
    waiting = system.sessions.open(plan("cuda:0"), second, asked)
    system.meter.tell("cuda:0", 100, 4)
    await system.service.watch.sample()
    first_may_end.set()
    await asyncio.sleep(0.05)
    await system.sessions.sweep()
    await asyncio.sleep(0.05)
    assert not second_begun.is_set()
    assert waiting.state is SessionState.QUEUED
    system.meter.tell("cuda:0", 100, 90)
    await system.service.watch.sample()
    await system.sessions.sweep()
    async with asyncio.timeout(5):
        await second_begun.wait()
