"""Memory figures: where each is from, and what is unknown and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from domains.device.core import DeviceInventory
from domains.device.errors import DeviceNotFound
from domains.device.types import ByteFigure, FigureQuality
from domains.memory.core import MemoryMonitor
from domains.memory.types import HostMemory
from tests.fakes.device import FakeProbe, FakeWorkers, card

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = HostMemory(
    total=ByteFigure.measured(1000, "total of a fake"),
    available=ByteFigure.measured(600, "available of a fake"),
    used_by_server=ByteFigure.measured(100, "ours of a fake"),
    swap_total=ByteFigure.measured(0, "swap of a fake"),
    swap_used=ByteFigure.measured(0, "swap of a fake"),
)


class FakeHost:
    """Main memory as it is told to be."""

    def __init__(self, memory: HostMemory = HOST) -> None:
        self.memory = memory

    def read(self) -> HostMemory:
        return self.memory


def monitor(probe: FakeProbe, host: HostMemory = HOST) -> tuple[MemoryMonitor, DeviceInventory]:
    inventory = DeviceInventory(probe, FakeWorkers())
    return MemoryMonitor(FakeHost(host), inventory, clock=lambda: NOW), inventory


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
    assert memory.allocated.value is None
    assert memory.allocated.quality is FigureQuality.UNKNOWN
    assert "does not count" in memory.allocated.source


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
    watched, _ = monitor(FakeProbe(replace(card(0), total_memory=total)))

    (memory,) = (await watched.status("cuda:0")).devices

    assert memory.total == total
    for figure in (memory.free, memory.allocated, memory.reserved, memory.peak_allocated):
        assert figure.value is None
        assert "workers do not report" in figure.source


async def test_a_lost_device_has_no_figures() -> None:
    total = ByteFigure.measured(8 << 30, "a driver")
    probe = FakeProbe(replace(card(0), total_memory=total))
    watched, inventory = monitor(probe)
    await inventory.discover()
    probe.adapters = []
    await inventory.discover()

    (memory,) = (await watched.status("cuda:0")).devices

    assert memory.total == ByteFigure.unknown("the device is lost")
