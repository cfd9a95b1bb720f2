"""Looking again while the server runs: after losses, now and then, never beside work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from domains.device.core.rediscovery import Rediscovery
from domains.device.types import DeviceState
from tests.domains.device.conftest import Domain
from tests.fakes.device import card


@asynccontextmanager
async def running(
    domain: Domain, *, interval: float = 0, busy: Callable[[], bool] = lambda: False
) -> AsyncIterator[None]:
    """The looks go on until the block ends."""
    rediscovery = Rediscovery(
        domain.service.inventory,
        domain.workers,
        domain.runs,
        busy=busy,
        interval=interval,
        settle=0.001,
    )
    task = asyncio.create_task(rediscovery.run())
    await looked(domain, 1)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def looked(domain: Domain, times: int) -> None:
    async with asyncio.timeout(30):
        while domain.probe.looks < times or not domain.service.inventory.devices[1:]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_it_looks_at_the_start_and_then_at_intervals(domain: Domain) -> None:
    async with running(domain, interval=0.001):
        await looked(domain, 3)


async def test_without_an_interval_it_looks_after_a_lost_worker_only(domain: Domain) -> None:
    async with running(domain):
        await asyncio.sleep(0.02)
        assert domain.probe.looks == 1

        domain.runs.change("cuda:0", DeviceState.RECOVERING, "it was lost")

        await looked(domain, 2)


async def test_a_processor_cannot_vanish_so_its_worker_is_no_reason(domain: Domain) -> None:
    async with running(domain):
        domain.runs.change("cpu:0", DeviceState.RECOVERING, "it was killed")
        domain.runs.change("cuda:0", DeviceState.READY)
        await asyncio.sleep(0.02)

        assert domain.probe.looks == 1


async def test_it_waits_until_no_device_works(domain: Domain) -> None:
    busy = True
    async with running(domain, busy=lambda: busy):
        domain.runs.change("cuda:0", DeviceState.QUARANTINED)
        await asyncio.sleep(0.02)
        assert domain.probe.looks == 1

        busy = False

        await looked(domain, 2)


async def test_a_quarantined_card_that_comes_back_gets_a_worker_at_once(
    domain: Domain,
) -> None:
    async with running(domain):
        domain.probe.adapters = []
        domain.runs.change("cuda:0", DeviceState.QUARANTINED, "it fell off the bus")
        await looked(domain, 2)
        assert domain.runs.restarted == []

        domain.probe.adapters = [card(0, hardware_id="GPU-1")]
        domain.runs.change("cuda:0", DeviceState.QUARANTINED, "it fell off the bus")
        async with asyncio.timeout(30):
            await domain.runs.restarting.wait()

    assert domain.runs.restarted == [("cuda:0", True)]


async def test_a_look_that_fails_is_not_the_last(
    domain: Domain, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(domain):
        start = domain.workers.start

        async def fail(devices: object) -> None:
            monkeypatch.setattr(domain.workers, "start", start)
            raise OSError("no room for the spool")

        monkeypatch.setattr(domain.workers, "start", fail)
        domain.runs.change("cuda:0", DeviceState.RECOVERING)
        await looked(domain, 2)
        domain.runs.change("cuda:0", DeviceState.RECOVERING)
        await looked(domain, 3)

    assert "no room for the spool" in caplog.text
