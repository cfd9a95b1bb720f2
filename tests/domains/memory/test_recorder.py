"""The history of memory: recorded, kept, told, and what it advises."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from domains.device.errors import DeviceNotFound
from domains.device.types import DeviceFigures
from domains.errors import (
    DomainError,
    Reason,
    ResourceExhausted,
)
from domains.memory.core.exhaustion import ExhaustionWatch
from domains.memory.core.recommendations import Advice
from domains.memory.core.recorder import MemoryRecorder, fragmentation_of
from domains.memory.errors import InvalidMemoryRequest, OutOfMemory, QuotaExceeded
from domains.memory.types import MemoryHolder, Place
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.errors import SessionFailed
from domains.session.types import SessionKind, WorkOptions
from domains.values import ByteFigure
from tests.domains.memory.conftest import CARD, HOST, MIB, System, build, hold
from tests.domains.sessions import report_of

GIB = 1 << 30


async def test_every_byte_has_one_holder(system: System, recorder: MemoryRecorder) -> None:
    system.meter.tell("cuda:0", 1000, 300, reserved=600, allocated=500, leased=150)
    await recorder.sample()
    system.time.move(1)
    history = {one.place: one for one in await recorder.analytics()}
    holders = {usage.holder: usage.peak_bytes for usage in history[CARD].holders}
    assert holders == {
        MemoryHolder.ALLOCATIONS: 150,
        MemoryHolder.SERVER: 450,
        MemoryHolder.OTHERS: 100,
    }
    assert history[CARD].peak_bytes == 700
    assert history[HOST].peak_bytes == 16 * GIB


async def test_a_place_that_is_gone_is_told_of_by_its_id(
    system: System, recorder: MemoryRecorder
) -> None:
    gone = Place("cuda:7")
    with pytest.raises(DeviceNotFound):
        await recorder.analytics("cuda:7")
    recorder.count_eviction(gone)
    recorder.count_out_of_memory(Place(pinned=True))
    system.time.move(1)
    host, card = await recorder.analytics("cuda:7")
    assert (host.place, card.place) == (HOST, gone)
    assert (host.out_of_memory_count, card.eviction_count) == (1, 1)


@pytest.mark.parametrize(
    "request_", [{"window": 0.5}, {"window": 2_592_001}, {"points": 0}, {"points": 1001}]
)
async def test_analytics_refuse_what_is_out_of_range(
    recorder: MemoryRecorder, request_: dict[str, float]
) -> None:
    with pytest.raises(InvalidMemoryRequest) as caught:
        await recorder.analytics(**request_)  # type: ignore[arg-type]
    assert caught.value.violations[0].field == next(iter(request_))


async def test_sessions_that_memory_failed_are_counted_once(
    system: System, recorder: MemoryRecorder
) -> None:
    watch = ExhaustionWatch(system.sessions, recorder, since=system.time.moment)

    async def fail(error: DomainError) -> None:
        async def work(session: object) -> None:
            raise error

        async def prepare() -> SessionPlan:
            return SessionPlan(SessionKind.MEMORY_TASK, "cuda:0", (), work)

        with suppress(SessionFailed):
            await report_of(system.sessions, SessionRequest(WorkOptions(), b"", prepare))

    await fail(ResourceExhausted("full", reason=Reason.DEVICE_OUT_OF_MEMORY))
    await fail(ResourceExhausted("full", reason=Reason.HOST_OUT_OF_MEMORY))
    await fail(ResourceExhausted("full", reason=Reason.QUEUE_FULL))
    watch.look()
    watch.look()
    system.time.move(1)
    counts = {one.place: one.out_of_memory_count for one in await recorder.analytics()}
    assert counts == {CARD: 1, HOST: 1}

    # A server that is started later has those sessions still.
    ExhaustionWatch(system.sessions, recorder, since=system.time.moment).look()
    system.time.move(1)
    again = await recorder.analytics()
    assert {one.place: one.out_of_memory_count for one in again} == counts


async def test_advice_is_about_what_was_measured(
    system: System, recorder: MemoryRecorder
) -> None:
    adviser = system.service.adviser
    assert await adviser.recommendations() == ()
    hold(system, "a")
    system.meter.tell("cuda:0", 1000, 50)
    await recorder.sample()
    system.time.move(1)
    found = await adviser.recommendations("cuda:0")
    assert [one.kind for one in found] == [Advice.UNLOAD_MODEL, Advice.SMALLER_DATA_TYPE]
    assert all(one.place == Place("cuda:0") for one in found)
    assert await adviser.recommendations("cpu") == ()


async def test_a_request_without_room_is_told_of_and_one_beyond_the_quota_is_not(
    system: System, recorder: MemoryRecorder
) -> None:
    system.meter.tell("cuda:0", GIB, MIB)
    with pytest.raises(OutOfMemory):
        await system.lend(CARD, 2 * MIB)
    system.buffers.capacity = MIB // 2
    with pytest.raises(OutOfMemory):  # the figures promised it, the memory refused
        await system.lend(CARD, MIB)
    await system.lend(CARD, MIB // 2)
    poor = build(quota_bytes=MIB)
    await poor.inventory.discover()
    with pytest.raises(QuotaExceeded):
        await poor.lend(HOST, 2 * MIB)

    assert (system.exhausted, poor.exhausted) == ([CARD, CARD], [])


def figures(**told: int) -> DeviceFigures:
    names = ("total", "free", "allocated", "reserved", "peak_allocated")
    names += ("largest_free", "inactive_split")
    found = {
        name: ByteFigure.measured(told[name], "test")
        if name in told
        else ByteFigure.unknown("test")
        for name in names
    }
    return DeviceFigures(**found, leased_bytes=0, models=(), read_time=datetime.now(UTC))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"free": 100, "largest_free": 25}, 0.75),
        ({"free": 100, "largest_free": 100}, 0.0),
        ({"free": 50, "reserved": 100, "allocated": 50, "inactive_split": 20}, 0.2),
        ({"free": 50, "inactive_split": 20}, None),
        ({"largest_free": 20}, None),
        ({"free": 0, "reserved": 5, "allocated": 5, "inactive_split": 0}, None),
    ],
)
def test_fragmentation_is_the_share_outside_the_largest_block(
    told: Mapping[str, int], expected: float | None
) -> None:
    assert fragmentation_of(figures(**told)) == expected
