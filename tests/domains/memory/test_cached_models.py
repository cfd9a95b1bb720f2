"""Models that main memory keeps are told, and give way before those that devices hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from domains.memory.core.model_memory import EvictionReport, EvictionRequest, ModelsInMemory
from domains.memory.core.recorder import MemoryRecorder
from domains.values import EvictionCause
from tests.domains.memory.conftest import CPU, HOST, MIB, USED, System
from tests.domains.sessions import report_of
from tests.fakes.memory import measured

TOTAL = 64 << 30
EACH = 64 * MIB


def available(system: System, size: int | None = None) -> int:
    """What main memory has left, after it was set to `size`."""
    if size is not None:
        system.host.memory = replace(system.host.memory, available=measured(size))
    return system.host.memory.available.value or 0


@pytest.fixture
def full(system: System) -> System:
    """Two cached models and one loaded, which was used least recently; each that is evicted
    frees `EACH` of main memory."""

    def grow(model_id: str) -> None:
        available(system, available(system) + EACH)

    system.cached.on_evict = system.models.on_release = grow
    system.models.hold("cpu:0", "loaded", EACH, used=USED)
    system.cached.keep("new", EACH, used=USED + timedelta(seconds=9))
    system.cached.keep("old", EACH, used=USED + timedelta(seconds=5))
    return system


async def use(system: System, share: float) -> None:
    system.host.use(share)
    await system.service.watch.sample()


async def free(system: System, target: int, **more: object) -> EvictionReport:
    request = EvictionRequest(**{"place": HOST, "target_free": target} | more)
    report = await report_of(system.sessions, system.service.models.evict(request))
    assert isinstance(report, EvictionReport)
    return report


async def test_they_are_told_as_lying_in_main_memory(
    full: System, models: ModelsInMemory
) -> None:
    (old,) = await models.held("old")

    assert (old.device_id, old.component.component) == ("", "files")
    assert old.component.size.value == EACH
    assert len(await models.held()) == 3


async def test_cached_models_go_before_loaded_ones(full: System) -> None:
    full.time.move(60)
    await use(full, 0.99)

    assert await full.reactions.relieve() == ("old", "new", "loaded")
    assert full.cached.evicted == ["old", "new"]


async def test_an_elevated_pressure_costs_one_at_a_time(full: System) -> None:
    full.time.move(60)
    await use(full, 0.82)

    assert await full.reactions.relieve() == ("old",)
    assert await full.reactions.relieve() == ("new",)
    assert await full.reactions.relieve() == ("loaded",)


async def test_what_is_pinned_or_in_use_stays(full: System) -> None:
    full.cached.pins.add("old")
    full.cached.keep("new", EACH, used=USED, in_use=True)
    full.cached.keep("taken", EACH, used=USED)
    full.cached.busy.add("taken")
    await use(full, 0.99)

    await full.reactions.relieve()

    assert full.cached.evicted == []
    assert full.models.released == ["loaded"]


async def test_a_tight_card_costs_no_cached_model(full: System) -> None:
    full.meter.tell("cuda:0", 1000, 5)
    await full.service.watch.sample()

    assert await full.reactions.relieve() == ()


@pytest.mark.parametrize("place", [HOST, CPU])
async def test_room_on_request_costs_cached_models_first(full: System, place: object) -> None:
    before = available(full)

    planned = await free(full, before + 2 * EACH, place=place, dry_run=True)
    report = await free(full, before + 2 * EACH, place=place)

    for told in (planned, report):
        assert [(one.device_id, one.component.model_id) for one in told.evicted] == [
            ("", "old"),
            ("", "new"),
        ]
    assert report.target_reached
    assert full.models.released == []


async def test_a_lease_takes_their_room(full: System) -> None:
    available(full, TOTAL // 20 + 5)  # a few bytes more than the CRITICAL share leaves
    full.time.move(1)

    await full.lend(HOST, MIB)

    assert full.cached.evicted == ["old"]


async def pressed(system: System) -> None:
    await use(system, 0.99)
    await system.reactions.relieve()


async def asked(system: System) -> None:
    await free(system, available(system) + 3 * EACH)


async def crowded(system: System) -> None:
    available(system, TOTAL // 20 + 5)
    await system.lend(HOST, 3 * EACH)


@pytest.mark.parametrize(
    ("happening", "cause"),
    [
        (pressed, EvictionCause.PRESSURE),
        (asked, EvictionCause.REQUESTED),
        (crowded, EvictionCause.ROOM),
    ],
)
async def test_it_is_told_why_each_of_them_left(
    full: System, happening: Callable[[System], Awaitable[None]], cause: EvictionCause
) -> None:
    full.time.move(60)

    await happening(full)

    assert full.cached.causes == [cause, cause]
    assert full.models.causes == [cause]


async def test_history_counts_them_by_name(full: System, recorder: MemoryRecorder) -> None:
    await recorder.sample()
    await free(full, available(full) + EACH)
    full.time.move(1)

    (host,) = [one for one in await recorder.analytics() if one.place == HOST]
    held = {one.holder: one.peak_bytes for one in host.holders}
    assert held["old"] == held["new"] == EACH
    assert host.eviction_count == 1
