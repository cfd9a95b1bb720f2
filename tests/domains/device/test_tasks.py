"""Profiles and restarts: sessions that change how a device works."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from domains.device.core.optimizations import OptimizationRequest
from domains.device.core.restarts import RestartRequest
from domains.device.errors import DeviceUnavailable, InvalidTask
from domains.device.jobs import OptimizationReport
from domains.device.types import DeviceState, OptimizationProfile
from domains.errors import NotFound, Reason, Unavailable
from domains.session.core.plan import SessionRequest
from domains.session.errors import RequestIdReused, SessionCancelled, SessionFailed
from domains.session.types import (
    Accepted,
    Completed,
    Phase,
    PhaseStarted,
    WorkOptions,
)
from tests.domains.device.conftest import Domain
from tests.domains.sessions import follow
from tests.fakes.device_runs import component, figures

FAST = OptimizationRequest("", OptimizationProfile.FAST, "", WorkOptions(), b"fast")
RESTART = RestartRequest("cuda:0", False, WorkOptions(), b"restart")


async def read(domain: Domain, request: SessionRequest) -> list[Any]:
    return [event.event async for event in follow(domain.sessions, request)]


async def optimize(domain: Domain, request: OptimizationRequest) -> list[Any]:
    return await read(domain, domain.service.optimizations.optimize(request))


async def restart(domain: Domain, request: RestartRequest) -> list[Any]:
    return await read(domain, domain.service.restarts.restart(request))


def phases(events: list[Any]) -> list[Phase]:
    return [event.phase for event in events if isinstance(event, PhaseStarted)]


# Profiles.


async def test_a_profile_is_applied_reported_and_remembered(domain: Domain) -> None:
    events = await optimize(domain, FAST)

    assert isinstance(events[0], Accepted)
    assert phases(events) == [Phase.LOADING_MODEL, Phase.MEASURING]
    assert isinstance(events[-1], Completed)
    assert isinstance(events[-1].report, OptimizationReport)
    status = await domain.build().monitor.status("cuda:0")
    assert status.profile is OptimizationProfile.FAST
    assert (await domain.service.monitor.status("cpu")).profile is OptimizationProfile.BALANCED


async def test_it_is_measured_with_the_model_named_else_loaded_else_the_default(
    domain: Domain,
) -> None:
    await optimize(domain, FAST)
    domain.runs.told["cuda:0"] = figures(component("style"))
    await optimize(domain, FAST)
    await optimize(domain, replace(FAST, model_id="emoji"))

    assert [work.model_id for _, work in domain.runs.optimized] == ["emoji", "style", "emoji"]
    assert {device_id for device_id, _ in domain.runs.optimized} == {"cuda:0"}


async def test_what_is_loaded_and_does_not_draw_is_not_what_it_is_measured_with(
    domain: Domain,
) -> None:
    domain.runs.told["cuda:0"] = figures(component("upscaler", hour=9), component("style"))
    await optimize(domain, FAST)
    domain.runs.told["cuda:0"] = figures(component("upscaler", hour=9))
    await optimize(domain, FAST)

    assert [work.model_id for _, work in domain.runs.optimized] == ["style", "emoji"]


async def test_a_failed_optimisation_is_not_remembered(domain: Domain) -> None:
    domain.runs.error = Unavailable("It died.", reason=Reason.WORKER_LOST)

    with pytest.raises(SessionFailed) as caught:
        await optimize(domain, FAST)

    assert caught.value.reason is Reason.WORKER_LOST
    status = await domain.service.monitor.status("cuda:0")
    assert status.profile is OptimizationProfile.BALANCED


async def test_a_cancelled_optimisation_stops_the_worker_and_is_not_remembered(
    domain: Domain,
) -> None:
    domain.runs.hold()
    following = asyncio.create_task(optimize(domain, FAST))
    await domain.runs.began.wait()
    (session,) = domain.sessions.all()

    session.request_cancel(Reason.CANCELLED_BY_CLIENT)

    with pytest.raises(SessionCancelled):
        await following
    assert domain.runs.stopped == 1
    status = await domain.service.monitor.status("cuda:0")
    assert status.profile is OptimizationProfile.BALANCED


async def test_what_is_not_there_is_refused_before_a_session_exists(domain: Domain) -> None:
    with pytest.raises(NotFound):
        await read(
            domain, domain.service.optimizations.optimize(replace(FAST, device_id="xpu:0"))
        )
    with pytest.raises(NotFound):
        await read(
            domain, domain.service.optimizations.optimize(replace(FAST, model_id="nothing"))
        )
    bad = replace(FAST, options=WorkOptions(run_timeout_seconds=0))
    with pytest.raises(InvalidTask):
        await optimize(domain, bad)

    assert domain.sessions.all() == ()


async def test_the_same_request_is_the_same_session(domain: Domain) -> None:
    options = WorkOptions(request_id="6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a111")
    request = replace(FAST, options=options)
    await optimize(domain, request)

    again = await optimize(domain, request)

    assert len(domain.sessions.all()) == 1
    assert isinstance(again[-1].report, OptimizationReport)
    assert len(domain.runs.optimized) == 1


async def test_the_same_request_is_answered_though_its_device_is_gone(domain: Domain) -> None:
    options = WorkOptions(request_id="6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a111")
    tuned = replace(FAST, device_id="cuda:0", options=options)
    later = WorkOptions(request_id="6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a222")
    replaced = replace(RESTART, options=later)
    await optimize(domain, tuned)
    await restart(domain, replaced)
    domain.probe.adapters = []
    domain.workers.set("cuda:0", DeviceState.UNAVAILABLE, "it is gone")
    await domain.service.inventory.discover()
    with pytest.raises(DeviceUnavailable):
        await read(
            domain, domain.service.optimizations.optimize(replace(FAST, device_id="cuda:0"))
        )

    again = await optimize(domain, tuned)
    assert isinstance(again[-1].report, OptimizationReport)
    events = await restart(domain, replaced)
    assert isinstance(events[-1], Completed)
    with pytest.raises(RequestIdReused):
        await restart(domain, replace(replaced, digest=b"other"))

    assert (len(domain.runs.optimized), len(domain.runs.restarted)) == (1, 1)


@pytest.mark.parametrize("torn", [b"", b'{"schema": 1}', b'{"schema": 1, "profile": "odd"}'])
async def test_a_torn_profile_is_the_balanced_one(domain: Domain, torn: bytes) -> None:
    domain.facts.put("device.profile/cuda:0", torn)

    status = await domain.service.monitor.status("cuda:0")

    assert status.profile is OptimizationProfile.BALANCED


# Restarts.


@pytest.mark.parametrize("force", [False, True])
async def test_a_restart_drains_then_starts(domain: Domain, force: bool) -> None:
    events = await restart(domain, replace(RESTART, force=force))

    assert phases(events) == [Phase.DRAINING, Phase.STARTING_WORKER]
    assert isinstance(events[-1], Completed)
    assert domain.runs.restarted == [("cuda:0", force)]


async def test_a_restart_waits_behind_no_work_of_its_device(domain: Domain) -> None:
    domain.runs.hold()
    measuring = asyncio.create_task(domain.service.self_tests.capabilities("cuda:0"))
    await domain.runs.began.wait()
    restarting = asyncio.create_task(restart(domain, RESTART))
    async with asyncio.timeout(30):
        await domain.runs.restarting.wait()
    assert not measuring.done()

    domain.runs.released.set()
    await measuring
    await restarting


async def test_a_quarantined_device_has_nothing_to_drain(domain: Domain) -> None:
    domain.workers.set("cuda:0", DeviceState.QUARANTINED, "it died")

    events = await restart(domain, RESTART)

    assert phases(events) == [Phase.STARTING_WORKER]
    assert (await domain.service.inventory.get("cuda:0")).state is DeviceState.READY


async def test_a_cancelled_restart_lets_the_worker_live(domain: Domain) -> None:
    domain.runs.hold()
    following = asyncio.create_task(restart(domain, RESTART))
    await domain.runs.began.wait()
    (session,) = domain.sessions.all()

    session.request_cancel(Reason.CANCELLED_BY_CLIENT)

    with pytest.raises(SessionCancelled):
        await following
    assert domain.runs.stopped == 1
    assert domain.runs.listeners == [domain.runs.listeners[0]]  # that of the watchers


async def test_a_new_worker_that_dies_too_fails_the_restart(domain: Domain) -> None:
    domain.runs.error = DeviceUnavailable("cuda:0", "It died again.")

    with pytest.raises(SessionFailed) as caught:
        await restart(domain, RESTART)

    assert caught.value.reason is Reason.DEVICE_UNAVAILABLE


async def test_a_device_without_a_worker_has_none_to_restart(domain: Domain) -> None:
    domain.workers.set("cuda:0", DeviceState.UNAVAILABLE, "no driver")

    with pytest.raises(DeviceUnavailable, match="no driver"):
        await restart(domain, RESTART)
    bad = replace(RESTART, options=WorkOptions(request_id="x"))
    with pytest.raises(InvalidTask):
        await restart(domain, bad)

    assert domain.runs.restarted == []
