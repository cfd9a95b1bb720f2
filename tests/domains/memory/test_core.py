"""Memory figures: where each is from, and what is unknown and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from msgspec import structs

from domains.device.core import DeviceInventory
from domains.device.errors import DeviceNotFound
from domains.memory.core import MemoryMonitor
from domains.memory.core.monitor import MAIN_MEMORY
from domains.memory.types import Extent, HostMemory, Place
from domains.values import ByteFigure, FigureQuality
from tests.fakes.device import FakeProbe, FakeWorkers, card
from tests.fakes.memory import FakeHost, FakeMeter

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = FakeHost().memory


def monitor(
    probe: FakeProbe, host: HostMemory = HOST, meter: FakeMeter | None = None
) -> tuple[MemoryMonitor, DeviceInventory]:
    inventory = DeviceInventory(probe, FakeWorkers())
    reader = FakeHost()
    reader.memory = host
    made = MemoryMonitor(reader, inventory, meter or FakeMeter(), clock=lambda: NOW)
    return made, inventory


async def test_every_device_is_told_once_discovery_has_ended() -> None:
    watched, _ = monitor(FakeProbe(card(0)))

    status = await watched.status()

    assert [memory.device_id for memory in status.devices] == ["cuda:0", "cpu:0"]
    assert status.host == HOST
    assert status.read_time == NOW


async def test_one_device_goes_by_any_of_its_names() -> None:
    watched, _ = monitor(FakeProbe(card(0)))

    status = await watched.status("gpu")

    assert [memory.device_id for memory in status.devices] == ["cuda:0"]


async def test_a_device_that_is_not_there_is_an_error() -> None:
    watched, _ = monitor(FakeProbe())

    with pytest.raises(DeviceNotFound):
        await watched.status("cuda")


async def test_the_processors_memory_is_main_memory() -> None:
    watched, _ = monitor(FakeProbe())

    (memory,) = (await watched.status("cpu")).devices

    assert memory.total == HOST.total
    assert memory.free == HOST.available
    assert memory.used_by_others == ByteFigure(
        300, FigureQuality.ESTIMATED, "total - available - used_by_server"
    )
    assert memory.allocated.quality is FigureQuality.UNKNOWN


async def test_shared_pages_never_make_others_negative() -> None:
    watched, _ = monitor(
        FakeProbe(), replace(HOST, used_by_server=ByteFigure.measured(900, "much"))
    )

    (memory,) = (await watched.status("cpu")).devices

    assert memory.used_by_others.value == 0


async def test_what_is_computed_from_an_unknown_figure_is_unknown() -> None:
    watched, _ = monitor(FakeProbe(), replace(HOST, available=ByteFigure.unknown("no idea")))

    (memory,) = (await watched.status("cpu")).devices

    assert memory.used_by_others.value is None


async def test_what_no_worker_reports_is_unknown_with_the_reason() -> None:
    total = ByteFigure.measured(8 << 30, "a driver")
    watched, _ = monitor(FakeProbe(structs.replace(card(0), total_memory=total)))

    (memory,) = (await watched.status("cuda:0")).devices

    assert memory.total == total
    for figure in (memory.free, memory.allocated, memory.reserved, memory.peak_allocated):
        assert figure.value is None
        assert "no worker of the device has told it" in figure.source


async def test_a_lost_device_has_no_figures() -> None:
    total = ByteFigure.measured(8 << 30, "a driver")
    probe = FakeProbe(structs.replace(card(0), total_memory=total))
    watched, inventory = monitor(probe)
    await inventory.discover()
    probe.adapters = []
    await inventory.discover()

    (memory,) = (await watched.status("cuda:0")).devices

    assert memory.total == ByteFigure.unknown("the device is lost")


async def test_a_workers_figures_are_told_as_they_are() -> None:
    meter = FakeMeter()
    meter.tell("cuda:0", 1000, 600, allocated=200, reserved=250)
    meter.tell("cpu:0", 7, 7, allocated=5)
    watched, _ = monitor(FakeProbe(card(0)), meter=meter)

    device, processor = (await watched.status()).devices

    figures = (device.total, device.free, device.allocated, device.reserved)
    assert [figure.value for figure in figures] == [1000, 600, 200, 250]
    assert device.used_by_others.value == 150
    assert (processor.total, processor.free) == (HOST.total, HOST.available)
    assert processor.allocated.value == 5


async def test_what_an_allocator_keeps_unused_can_be_taken() -> None:
    meter = FakeMeter()
    meter.tell("cuda:0", 1000, 600, allocated=200, reserved=250)
    watched, inventory = monitor(FakeProbe(card(0)), meter=meter)
    await inventory.discover()

    assert await watched.extent(Place("cuda:0")) == Extent(1000, 650)
    assert await watched.extent(Place("cpu:0")) == await watched.extent(Place())
    assert await watched.extent(Place()) == Extent(1000, 600)


async def test_a_device_that_is_not_known_has_not_the_size_of_main_memory() -> None:
    """As right after a start, when history knows a card that is still looked for."""
    watched, _ = monitor(FakeProbe(card(0), held=True))

    assert await watched.extent(Place("cuda:0")) == Extent(None, None)
    assert watched.pool(Place("cuda:0")) == "cuda:0"
    assert watched.pool(Place("cpu:0")) == watched.pool(Place(pinned=True)) == MAIN_MEMORY
