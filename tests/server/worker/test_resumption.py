"""What a new worker takes over from the one before: its device's profile and number."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from domains.device.types import Device, OptimizationProfile
from server.worker.front.pool import WorkerOptions, WorkerPool
from tests.server.worker.workers import DEVICE, LENIENT, QUICK, outcome, ready

Pools = Callable[..., AbstractAsyncContextManager[WorkerPool]]


class Profiles:
    """What the next worker is to run with."""

    def __init__(self) -> None:
        self.next = OptimizationProfile.BALANCED
        self.asked: list[str] = []

    def of(self, device_id: str) -> OptimizationProfile:
        self.asked.append(device_id)
        return self.next


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[], list[str]]:
    """What workers wrote down so far."""
    return lambda: (tmp_path / "notes").read_text("ascii").splitlines()


@pytest.fixture
def pool_of(tmp_path: Path) -> Pools:
    """Starts pools of witnesses."""

    @asynccontextmanager
    async def start(
        profiles: Profiles, *arguments: str, device: Device = DEVICE
    ) -> AsyncIterator[WorkerPool]:
        witness = (sys.executable, "-m", "tests.fakes.witness_worker")
        pool = WorkerPool(
            WorkerOptions(tmp_path / "spool", timing=QUICK, restart=LENIENT),
            command=lambda _: [*witness, str(tmp_path / "notes"), *arguments],
            profile_of=profiles.of,
        )
        await pool.start((device,))
        try:
            yield pool
        finally:
            await pool.stop(0)

    return start


async def test_each_new_worker_runs_with_the_profile_of_now(
    pool_of: Pools, notes: Callable[[], list[str]]
) -> None:
    profiles = Profiles()
    async with pool_of(profiles) as pool:
        await ready(pool)
        assert notes() == ["device cpu"]  # what every worker begins with is not applied

        profiles.next = OptimizationProfile.LOW_MEMORY
        await pool.restart(DEVICE.device_id)

        assert notes() == ["device cpu", "device cpu", "profile low-memory"]
        assert profiles.asked == [DEVICE.device_id] * 2


async def test_a_profile_that_does_not_go_any_more_keeps_no_worker_from_working(
    pool_of: Pools, notes: Callable[[], list[str]]
) -> None:
    profiles = Profiles()
    profiles.next = OptimizationProfile.FAST
    async with pool_of(profiles, "refuse") as pool:
        await ready(pool)

        assert (await outcome(pool)).report is not None
        assert notes() == ["device cpu", "profile fast"]


async def test_a_device_that_its_driver_numbers_otherwise_is_opened_by_its_new_number(
    pool_of: Pools, notes: Callable[[], list[str]]
) -> None:
    async with pool_of(Profiles()) as pool:
        await ready(pool)
        await pool.start([replace(DEVICE, torch_device="cpu:1")])
        assert notes() == ["device cpu"]  # the one that lives keeps its number

        await pool.restart(DEVICE.device_id)

        assert notes() == ["device cpu", "device cpu:1"]
