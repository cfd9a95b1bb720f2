"""Defragmentation: what was done about it, and what it gained."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec import structs

from domains.device.errors import DeviceNotFound, DeviceUnavailable
from domains.device.jobs import ReleaseJob, ReleaseReport
from domains.device.types import DeviceFigures, DeviceState
from domains.memory.core.defragment import (
    DefragmentAction,
    Defragmentation,
    DefragmentRequest,
    Depth,
)
from domains.session.jobs import Job
from domains.session.types import WorkOptions
from tests.domains.memory.conftest import System, hold
from tests.domains.sessions import report_of

GIB = 1 << 30


class Runs:
    """Workers that release and restart, in the figures of the meter alone."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.done: list[str] = []

    def figures(self, device_id: str) -> DeviceFigures | None:
        return self.system.meter.figures(device_id)

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        assert job == ReleaseJob(reload=True)
        self.done.append("reload")
        parts = tuple(one.component for one in self.system.models.components)
        yield ReleaseReport(parts, parts)

    async def restart(self, device_id: str, force: bool = False) -> None:
        self.done.append("restart")
        self.system.meter.tell(device_id, GIB, GIB)


async def defragment(
    system: System, depth: Depth, device: str = "cuda:0", *, request_id: str = ""
) -> tuple:
    runs = Runs(system)
    monitor = system.service.monitor
    core = Defragmentation(system.inventory, runs, system.buffers, monitor)
    request = DefragmentRequest(device, depth, WorkOptions(request_id=request_id))
    return await report_of(system.sessions, core.run(request)), runs.done


async def test_release_says_what_the_allocator_gave_back(system: System) -> None:
    system.meter.tell("cuda:0", GIB, GIB // 2, reserved=500)

    async def give_back(device_id: str) -> None:
        system.meter.tell(device_id, GIB, GIB // 2 + 400, reserved=100)

    system.buffers.release_cached = give_back  # type: ignore[method-assign]
    report, done = await defragment(system, Depth.RELEASE)
    assert report.done.actions == (DefragmentAction.BLOCKS_RELEASED,)
    assert report.done.released.value == 400
    assert report.free_after.value - report.free_before.value == 400
    assert done == []


async def test_the_processor_is_told_of_for_what_it_is(system: System) -> None:
    system.meter.tell("cpu:0", 1, 1)
    report, _ = await defragment(system, Depth.RELEASE, "cpu")
    assert report.free_after.value == 48 * GIB
    assert report.done.actions == (DefragmentAction.BLOCKS_RELEASED,)
    assert report.done.released.value is None
    assert "operating system" in report.done.released.source


async def test_reload_names_the_models(system: System) -> None:
    report, done = await defragment(system, Depth.RELOAD)
    assert report.done.actions == (DefragmentAction.BLOCKS_RELEASED,)
    assert report.done.model_ids == ()
    hold(system, "a", "b")
    report, done = await defragment(system, Depth.RELOAD)
    assert report.done.actions == (
        DefragmentAction.MODELS_RELOADED,
        DefragmentAction.BLOCKS_RELEASED,
    )
    assert report.done.model_ids == ("a", "b")
    assert done == ["reload"]


async def test_recycling_says_what_was_lost(system: System) -> None:
    hold(system, "a")
    system.meter.tell("cuda:0", GIB, GIB // 2, leased=7)
    known = system.meter.known["cuda:0"]
    held = system.models.figures("cuda:0").models
    system.meter.known["cuda:0"] = structs.replace(known, models=held)
    report, done = await defragment(system, Depth.RECYCLE_WORKER)
    assert done == ["restart"]
    assert report.done.actions == (DefragmentAction.WORKER_RECYCLED,)
    assert (report.done.lost_bytes, report.done.model_ids) == (7, ("a",))
    assert report.free_after.value == GIB


async def test_a_device_that_is_not_there_is_not_defragmented(system: System) -> None:
    with pytest.raises(DeviceNotFound):
        await defragment(system, Depth.RELEASE, "cuda:9")


async def test_the_same_request_is_answered_though_the_device_is_gone(system: System) -> None:
    key = "6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a111"
    report, _ = await defragment(system, Depth.RECYCLE_WORKER, request_id=key)
    system.probe.adapters = []
    system.workers.set("cuda:0", DeviceState.LOST, "it is gone")
    await system.inventory.discover()
    with pytest.raises(DeviceUnavailable):
        await defragment(system, Depth.RECYCLE_WORKER)

    again, done = await defragment(system, Depth.RECYCLE_WORKER, request_id=key)

    assert (again, done) == (report, [])
