"""Capabilities: measured once, shared by who asks meanwhile, forgotten with the driver."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from domains.device.errors import DeviceNotFound
from domains.device.types import DeviceState, WorkerStatus
from domains.errors import DomainError, Reason, Unavailable
from domains.session.errors import SessionFailed
from domains.session.types import SessionKind, SessionState
from domains.values import ByteFigure
from tests.domains.device.conftest import Domain
from tests.fakes.device import PROCESSOR, card
from tests.fakes.device_runs import facts


async def test_what_was_measured_is_kept_and_told_again(domain: Domain) -> None:
    first = await domain.service.self_tests.capabilities("gpu")
    again = await domain.build().self_tests.capabilities("cuda:0")

    assert first.device_id == "cuda:0"
    assert first.facts == facts()
    assert again == first
    assert domain.runs.tests == 1


async def test_it_is_measured_as_a_session_of_the_device(domain: Domain) -> None:
    await domain.service.self_tests.capabilities("cuda:0")

    (session,) = domain.sessions.all()
    assert session.kind is SessionKind.DEVICE_TASK
    assert session.device_id == "cuda:0"
    assert session.state is SessionState.COMPLETED


async def test_callers_at_once_share_one_run(domain: Domain) -> None:
    domain.runs.hold()
    asked = [
        asyncio.create_task(domain.service.self_tests.capabilities("cuda:0", refresh=refresh))
        for refresh in (False, True, False)
    ]
    await domain.runs.began.wait()
    domain.runs.released.set()

    found = await asyncio.gather(*asked)

    assert domain.runs.tests == 1
    assert len(set(map(id, (each.facts for each in found)))) == 1


async def test_a_refresh_measures_again(domain: Domain) -> None:
    await domain.service.self_tests.capabilities("cuda:0")
    domain.runs.problem = "float16 gives wrong results."

    fresh = await domain.service.self_tests.capabilities("cuda:0", refresh=True)
    kept = await domain.service.self_tests.capabilities("cuda:0")

    assert fresh.facts.problems == ("float16 gives wrong results.",)
    assert kept == fresh
    assert domain.runs.tests == 2


async def test_a_twin_in_another_machine_is_measured_by_itself(domain: Domain) -> None:
    """Processors have no identity but their name, and many machines have the same."""
    there = msgspec.structs.replace(PROCESSOR, node="node-a")
    domain.probe.adapters = [there, msgspec.structs.replace(there, node="node-b")]
    names = ("cpu:0", "ray:node-a:cpu:0", "ray:node-b:cpu:0")
    for problem in names:
        domain.runs.problem = problem
        await domain.service.self_tests.capabilities(problem)

    found = [await domain.service.self_tests.capabilities(name) for name in names]

    assert [each.facts.problems for each in found] == [(name,) for name in names]


@pytest.mark.parametrize("changed", ["driver_version", "runtime_version", "worker"])
async def test_another_driver_or_library_is_measured_anew(domain: Domain, changed: str) -> None:
    worker = WorkerStatus(DeviceState.READY, software_versions={"torch": "9.9"})
    domain.workers.statuses["cuda:0"] = worker
    await domain.service.self_tests.capabilities("cuda:0")
    if changed == "worker":
        newer = replace(worker, software_versions={"torch": "10"})
        domain.workers.statuses["cuda:0"] = newer
    else:
        domain.probe.adapters = [
            msgspec.structs.replace(card(0, hardware_id="GPU-1"), **{changed: "2"})
        ]

    await domain.build().self_tests.capabilities("cuda:0")

    assert domain.runs.tests == 2


async def test_a_device_without_a_worker_still_tells_what_was_measured(domain: Domain) -> None:
    await domain.service.self_tests.capabilities("cuda:0")
    domain.workers.set("cuda:0", DeviceState.QUARANTINED, "it died")

    assert (await domain.service.self_tests.capabilities("cuda:0")).facts == facts()
    with pytest.raises(Unavailable) as caught:
        await domain.service.self_tests.capabilities("cuda:0", refresh=True)
    assert caught.value.reason is Reason.DEVICE_QUARANTINED
    assert domain.runs.tests == 1


@pytest.mark.parametrize("part", ["facts", "data_types", "largest_allocation"])
async def test_a_torn_record_is_measured_anew(domain: Domain, part: str) -> None:
    await domain.service.self_tests.capabilities("cuda:0")
    key = "device.capabilities/cuda/GPU-1"
    record = msgspec.msgpack.decode(domain.facts.get(key) or b"")
    (record if part == "facts" else record["facts"])[part] = 7
    domain.facts.put(key, msgspec.msgpack.encode(record))

    assert (await domain.service.self_tests.capabilities("cuda:0")).facts == facts()
    assert domain.runs.tests == 2


async def test_an_unknown_figure_survives_being_kept(domain: Domain) -> None:
    await domain.service.self_tests.capabilities("cuda:0")
    key = "device.capabilities/cuda/GPU-1"
    record = msgspec.msgpack.decode(domain.facts.get(key) or b"")
    record["facts"]["largest_allocation"] |= {
        "value": None,
        "quality": "unknown",
        "source": "it was not tried",
    }
    domain.facts.put(key, msgspec.msgpack.encode(record))

    found = await domain.service.self_tests.capabilities("cuda:0")

    assert found.facts.largest_allocation == ByteFigure.unknown("it was not tried")
    assert domain.runs.tests == 1


async def test_a_failure_reaches_every_caller_and_is_not_kept(domain: Domain) -> None:
    domain.runs.error = Unavailable("The worker was lost.", reason=Reason.WORKER_LOST)
    results = await asyncio.gather(
        *(domain.service.self_tests.capabilities("cuda:0") for _ in range(2)),
        return_exceptions=True,
    )

    assert [type(each) for each in results] == [SessionFailed, SessionFailed]
    assert all(isinstance(e, DomainError) and e.reason is Reason.WORKER_LOST for e in results)
    domain.runs.error = None
    assert (await domain.service.self_tests.capabilities("cuda:0")).facts == facts()


async def test_a_caller_that_leaves_ends_nothing(domain: Domain) -> None:
    domain.runs.hold()
    impatient = asyncio.create_task(domain.service.self_tests.capabilities("cuda:0"))
    await domain.runs.began.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    domain.runs.released.set()

    assert (await domain.service.self_tests.capabilities("cuda:0")).facts == facts()
    assert domain.runs.tests == 1
    assert domain.runs.stopped == 0


async def test_a_missing_device_has_no_capabilities(domain: Domain) -> None:
    with pytest.raises(DeviceNotFound):
        await domain.service.self_tests.capabilities("xpu:0")
