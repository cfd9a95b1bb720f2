"""What a device is doing: put together without waiting for anybody who hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from domains.device.core.figures import device_memory, loaded_model
from domains.device.types import DeviceState, Load, OptimizationProfile
from domains.values import ByteFigure, FigureQuality
from tests.domains.device.conftest import Domain, FakeMainMemory
from tests.domains.session.conftest import submit
from tests.fakes.device import card
from tests.fakes.device_runs import FakeTelemetry, component, figures


async def test_the_queue_and_the_session_are_the_devices_own(domain: Domain) -> None:
    domain.runs.hold()

    async def work(session: object) -> None:
        await domain.runs._work()

    first = submit(domain.sessions, work, device_id="cuda:0")
    submit(domain.sessions, work, device_id="cuda:0")
    await domain.runs.began.wait()

    busy = await domain.service.monitor.status("cuda:0")
    idle = await domain.service.monitor.status("cpu:0")

    assert (busy.session_id, busy.queue_depth) == (first.session_id, 1)
    assert (idle.session_id, idle.queue_depth) == ("", 0)


async def test_load_state_and_profile_come_from_those_who_know(domain: Domain) -> None:
    domain.telemetry.load = Load(0.5, 60.0, 120.0)
    domain.workers.set("cuda:0", DeviceState.RECOVERING, "it was lost")
    domain.runs.told["cuda:0"] = figures(component("style", hour=3), component("emoji", hour=5))

    status = await domain.service.monitor.status("gpu")

    assert status.load == Load(0.5, 60.0, 120.0)
    assert status.report.state is DeviceState.RECOVERING
    assert status.worker.explanation == "it was lost"
    assert status.loaded_model_id == "emoji"
    assert status.profile is OptimizationProfile.BALANCED


class HangingTelemetry(FakeTelemetry):
    """A driver that answers when it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = threading.Event()

    def read(self, device: object) -> Load:
        self.readings += 1
        self.answer.wait()
        return Load(0.75)


async def test_a_driver_that_hangs_holds_one_thread_and_nobody_who_asks(
    make_domain: Callable[..., Domain],
) -> None:
    telemetry = HangingTelemetry()
    domain = make_domain(telemetry=telemetry)

    silent = [await domain.service.monitor.status("cuda:0") for _ in range(3)]

    assert [status.load for status in silent] == [Load()] * 3
    assert telemetry.readings == 1
    telemetry.answer.set()
    async with asyncio.timeout(30):  # a busy machine may be late with the answer
        while (await domain.service.monitor.status("cuda:0")).load != Load(0.75):
            pass


async def test_a_lost_device_is_not_asked_for_its_temperature(domain: Domain) -> None:
    await domain.service.inventory.discover()
    domain.probe.adapters = []
    await domain.service.inventory.discover()
    domain.workers.set("cuda:0", DeviceState.UNAVAILABLE)

    status = await domain.service.monitor.status("cuda:0")
    memory = await domain.service.monitor.memory("cuda:0")

    assert domain.telemetry.readings == 0
    assert status.report.state is DeviceState.LOST
    assert memory.total.value is None
    assert "lost" in memory.total.source


async def test_figures_are_the_workers_and_the_rest_is_worked_out(domain: Domain) -> None:
    domain.runs.told["cuda:0"] = figures()

    memory = await domain.service.monitor.memory("")

    assert memory.device_id == "cuda:0"
    assert memory.total.value == 1000
    assert memory.peak_allocated.value == 230
    assert memory.used_by_others.value == 1000 - 600 - 250
    assert memory.used_by_others.quality is FigureQuality.ESTIMATED
    assert memory.used_by_others.source == "total - free - reserved"


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"reserved": ByteFigure.unknown("no allocator")}, 200),
        ({"free": ByteFigure.unknown("no")}, None),
        ({"total": ByteFigure.unknown("no")}, None),
        ({"free": ByteFigure.measured(900, "raced")}, 0),
    ],
)
async def test_what_others_use_is_computed_from_what_is_known(
    domain: Domain, changes: dict[str, ByteFigure], value: int | None
) -> None:
    device = (await domain.service.inventory.get("cuda:0")).device

    assert device_memory(device, figures(**changes)).used_by_others.value == value


async def test_before_a_worker_told_only_the_adapters_total_is_known(
    domain: Domain,
) -> None:
    domain.probe.adapters = [
        replace(card(0), total_memory=ByteFigure.measured(8 << 30, "a driver"))
    ]

    memory = await domain.service.monitor.memory("cuda:0")

    assert memory.total.value == 8 << 30
    assert {memory.free.value, memory.allocated.value, memory.used_by_others.value} == {None}


async def test_the_processors_memory_is_main_memory(domain: Domain) -> None:
    untold = ByteFigure.unknown("main memory's figures tell it")
    domain.runs.told["cpu:0"] = figures(total=untold, free=untold)

    memory = await domain.service.monitor.memory("cpu")

    assert (memory.total.value, memory.free.value) == (16 << 30, 10 << 30)
    assert memory.used_by_others.value == (16 - 10 - 2) << 30
    assert memory.used_by_others.quality is FigureQuality.ESTIMATED
    assert memory.allocated.value == 200  # the worker's own


async def test_unknown_main_memory_makes_what_follows_from_it_unknown(domain: Domain) -> None:
    device = (await domain.service.inventory.get("cpu")).device
    main = FakeMainMemory(used_by_server=ByteFigure.unknown("no"))

    assert device_memory(device, figures(), main).used_by_others.value is None


def test_the_model_in_use_is_the_loaded_one() -> None:
    assert loaded_model(None) == ""
    assert loaded_model(figures()) == ""
    newer, used = component("newer", hour=9), component("used", hour=1, in_use=True)
    assert loaded_model(figures(newer, used)) == "used"
