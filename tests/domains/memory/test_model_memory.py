"""Models in memory: told, and let go until so much is free."""

from __future__ import annotations

import pytest

from domains.device.errors import DeviceNotFound
from domains.errors import (
    FailedPrecondition,
    NotFound,
    Reason,
)
from domains.memory.core.model_memory import EvictionReport, EvictionRequest, ModelsInMemory
from domains.memory.core.recorder import MemoryRecorder
from domains.memory.errors import InvalidMemoryRequest
from domains.session.errors import SessionFailed
from domains.session.types import WorkOptions
from tests.domains.memory.conftest import CARD, HOST, USED, System, hold
from tests.domains.sessions import report_of

GIB = 1 << 30


KEY = "6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a111"


async def evict(
    system: System, models: ModelsInMemory, target: int, **request: object
) -> EvictionReport:
    wanted = EvictionRequest(**{"place": CARD, "target_free": target} | request)
    report = await report_of(system.sessions, models.evict(wanted))
    assert isinstance(report, EvictionReport)
    return report


async def test_models_are_told_by_model_and_device(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a", "b")
    assert len(await models.held()) == 2
    assert [one.component.model_id for one in await models.held("b")] == ["b"]
    assert await models.held("a", "cuda:1") == ()
    assert len(await models.held("", "gpu:0")) == 2
    assert await models.held("known") == ()
    with pytest.raises(NotFound):
        await models.held("unknown")
    with pytest.raises(DeviceNotFound):
        await models.held("", "cuda:7")


async def test_the_least_recently_used_go_until_the_target(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a", "b", "c")
    report = await evict(system, models, 350)
    assert system.models.released == ["a", "b"]
    assert [one.component.model_id for one in report.evicted] == ["a", "b"]
    assert (report.free_before.value, report.free_after.value) == (200, 400)
    assert report.target_reached


async def test_a_dry_run_lets_nothing_go(system: System, models: ModelsInMemory) -> None:
    hold(system, "a", "b", "c")
    report = await evict(system, models, 350, dry_run=True)
    assert system.models.released == []
    assert [one.component.model_id for one in report.evicted] == ["a", "b"]
    assert report.free_after.value == 400
    assert report.target_reached


async def test_what_is_free_already_needs_nobody(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a")
    report = await evict(system, models, 200)
    assert (report.evicted, report.target_reached) == ((), True)


async def test_a_target_that_needs_a_model_in_use_moves_nothing(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a", "b", in_use=["a"])
    with pytest.raises(FailedPrecondition) as caught:
        await evict(system, models, 350)
    assert caught.value.reason is Reason.MODEL_IN_USE
    assert caught.value.metadata == {"model_ids": "a", "missing_bytes": "50"}
    assert system.models.released == []
    report = await evict(system, models, 300)
    assert report.target_reached


async def test_a_target_beyond_every_model_is_told_as_missed(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a", "b")
    report = await evict(system, models, 900)
    assert len(report.evicted) == 2
    assert not report.target_reached


async def test_a_worker_that_is_lost_ends_the_session(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a")
    system.models.busy = True
    with pytest.raises(SessionFailed) as caught:
        await evict(system, models, 300)
    assert caught.value.reason is Reason.WORKER_LOST


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"place": None}, "place"),
        ({"target_free": 0}, "target_free_bytes"),
        ({"target_free": (1 << 40) + 1}, "target_free_bytes"),
        ({"options": WorkOptions(run_timeout_seconds=-1)}, "options.run_timeout"),
    ],
)
async def test_bad_requests_name_the_field(
    system: System, models: ModelsInMemory, request_: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidMemoryRequest) as caught:
        await evict(system, models, **{"target": 100} | request_)  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field


async def test_main_memory_is_freed_on_the_processor(
    system: System, models: ModelsInMemory
) -> None:
    system.models.hold("cpu:0", "a", 100, used=USED)
    report = await evict(system, models, 1 << 40, place=HOST)
    assert [one.device_id for one in report.evicted] == ["cpu:0"]
    assert report.free_before.value == 48 * GIB


async def test_evictions_are_counted_where_they_happen(
    system: System, models: ModelsInMemory, recorder: MemoryRecorder
) -> None:
    hold(system, "a", "b", "c")
    await evict(system, models, 350)
    await recorder.sample()
    system.time.move(1)
    (card,) = [one for one in await recorder.analytics() if one.place == CARD]
    assert card.eviction_count == 2


async def test_the_same_request_is_answered_though_it_could_not_begin_any_more(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a", "b")
    options = WorkOptions(request_id=KEY)
    report = await evict(system, models, 300, options=options)
    hold(system, "a", "b", in_use=["a", "b"])
    with pytest.raises(FailedPrecondition):
        await evict(system, models, 300)

    assert await evict(system, models, 300, options=options) is report
    assert system.models.released == ["a"]
