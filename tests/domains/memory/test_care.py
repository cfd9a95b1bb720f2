"""Models in memory, defragmentation, the recorder: over devices in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from domains.device.errors import DeviceNotFound
from domains.device.ports import TaskEvent
from domains.device.types import DeviceFigures, OptimizationProfile, ReleaseReport, ReleaseWork
from domains.errors import (
    DomainError,
    FailedPrecondition,
    NotFound,
    Reason,
    ResourceExhausted,
)
from domains.memory.core.care import MemoryAdviser
from domains.memory.core.defragment import Defragmentation, DefragmentRequest, Depth
from domains.memory.core.happenings import CountedModels, ExhaustionWatch
from domains.memory.core.history import MemoryRecorder
from domains.memory.core.model_memory import EvictionReport, EvictionRequest, ModelsInMemory
from domains.memory.core.recommendations import Advice
from domains.memory.errors import InvalidMemoryRequest
from domains.memory.types import MemoryInterval, Place
from domains.session.core.sessions import SessionPlan
from domains.session.core.tasks import Tasks
from domains.session.errors import SessionFailed
from domains.session.types import SessionKind, SessionOptions
from server.errors import failure
from tests.domains.memory.conftest import CARD, HOST, System
from tests.fakes.memory import measured

USED = datetime(2030, 1, 1, tzinfo=UTC)
GIB = 1 << 30


@dataclass
class Store:
    """A journal in memory."""

    kept: list[MemoryInterval] = field(default_factory=list)
    writes: int = 0

    def history(self) -> Sequence[MemoryInterval]:
        return self.kept

    def write_history(
        self, intervals: Sequence[MemoryInterval], *, keep: Mapping[int, int]
    ) -> object:
        self.writes += 1
        self.kept += intervals
        return None


class Runs:
    """Workers that release and restart, in the figures of the meter alone."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.done: list[str] = []

    def figures(self, device_id: str) -> DeviceFigures | None:
        return self.system.meter.figures(device_id)

    async def release(
        self, device_id: str, session_id: str, work: ReleaseWork, *, remaining: float
    ) -> AsyncGenerator[TaskEvent | ReleaseReport]:
        assert work.reload
        self.done.append("reload")
        parts = tuple(one.component for one in self.system.models.held())
        yield ReleaseReport(parts, parts)

    async def restart(self, device_id: str, force: bool = False) -> None:
        self.done.append("restart")
        self.system.meter.tell(device_id, GIB, GIB)


async def find(model_id: str) -> object:
    if model_id != "known":
        raise NotFound("no such model", reason=Reason.MODEL_NOT_FOUND)
    return model_id


@pytest.fixture
def recorder(system: System) -> MemoryRecorder:
    return MemoryRecorder(
        system.service.monitor,
        system.meter,
        system.inventory,
        Store(),
        host_leases=system.segments.lent,
        now=lambda: system.time.now().timestamp(),
    )


@pytest.fixture
def models(system: System, recorder: MemoryRecorder) -> ModelsInMemory:
    """Model memory of a card whose released models become free memory."""

    def grow(model_id: str) -> None:
        figures = system.meter.figures("cuda:0")
        assert figures is not None
        free = measured((figures.free.value or 0) + 100)
        system.meter.known["cuda:0"] = replace(figures, free=free)

    system.models.on_release = grow
    return ModelsInMemory(
        system.service.monitor,
        system.inventory,
        CountedModels(system.models, recorder),
        Tasks(system.sessions, describe=failure),
        find=find,
    )


def hold(system: System, *names: str, in_use: Sequence[str] = ()) -> None:
    """Models of 100 bytes on the first card, the first the least recently used."""
    system.meter.tell("cuda:0", 1000, 200)
    for age, name in enumerate(names):
        used = USED + timedelta(seconds=age)
        system.models.hold("cuda:0", name, 100, used=used, in_use=name in in_use)


async def evict(models: ModelsInMemory, target: int, **request: object) -> EvictionReport:
    wanted = EvictionRequest(**{"place": CARD, "target_free": target} | request)
    items = [item async for item in models.optimize(wanted)]
    assert isinstance(items[-2], EvictionReport)
    return items[-2]


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
    report = await evict(models, 350)
    assert system.models.released == ["a", "b"]
    assert [one.component.model_id for one in report.evicted] == ["a", "b"]
    assert (report.free_before.value, report.free_after.value) == (200, 400)
    assert report.target_reached


async def test_a_dry_run_lets_nothing_go(system: System, models: ModelsInMemory) -> None:
    hold(system, "a", "b", "c")
    report = await evict(models, 350, dry_run=True)
    assert system.models.released == []
    assert [one.component.model_id for one in report.evicted] == ["a", "b"]
    assert report.free_after.value == 400
    assert report.target_reached


async def test_what_is_free_already_needs_nobody(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a")
    report = await evict(models, 200)
    assert (report.evicted, report.target_reached) == ((), True)


async def test_a_target_that_needs_a_model_in_use_moves_nothing(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a", "b", in_use=["a"])
    with pytest.raises(FailedPrecondition) as caught:
        await evict(models, 350)
    assert caught.value.reason is Reason.MODEL_IN_USE
    assert caught.value.metadata == {"model_ids": "a", "missing_bytes": "50"}
    assert system.models.released == []
    report = await evict(models, 300)
    assert report.target_reached


async def test_a_target_beyond_every_model_is_told_as_missed(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a", "b")
    report = await evict(models, 900)
    assert len(report.evicted) == 2
    assert not report.target_reached


async def test_a_worker_that_is_lost_ends_the_session(
    system: System, models: ModelsInMemory
) -> None:
    hold(system, "a")
    system.models.busy = True
    with pytest.raises(SessionFailed) as caught:
        await evict(models, 300)
    assert caught.value.reason is Reason.WORKER_LOST


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"place": None}, "place"),
        ({"target_free": 0}, "target_free_bytes"),
        ({"target_free": (1 << 40) + 1}, "target_free_bytes"),
        ({"options": SessionOptions(timeout_seconds=-1)}, "options.timeout"),
    ],
)
async def test_bad_requests_name_the_field(
    models: ModelsInMemory, request_: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidMemoryRequest) as caught:
        await evict(models, **{"target": 100} | request_)  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field


async def test_main_memory_is_freed_on_the_processor(
    system: System, models: ModelsInMemory
) -> None:
    system.models.hold("cpu:0", "a", 100, used=USED)
    report = await evict(models, 1 << 40, place=HOST)
    assert [one.device_id for one in report.evicted] == ["cpu:0"]
    assert report.free_before.value == 48 * GIB


# Defragmentation.


async def defragment(system: System, depth: Depth, device: str = "cuda:0") -> tuple:
    runs = Runs(system)
    tasks = Tasks(system.sessions, describe=failure)
    monitor = system.service.monitor
    core = Defragmentation(system.inventory, runs, system.buffers, monitor, tasks)
    items = [item async for item in core.run(DefragmentRequest(device, depth))]
    return items[-2], runs.done


async def test_release_says_what_the_allocator_gave_back(system: System) -> None:
    system.meter.tell("cuda:0", GIB, GIB // 2, reserved=500)

    async def give_back(device_id: str) -> None:
        system.meter.tell(device_id, GIB, GIB // 2 + 400, reserved=100)

    system.buffers.release_cached = give_back  # type: ignore[method-assign]
    report, done = await defragment(system, Depth.RELEASE)
    assert report.actions == ("The allocator gave back 400 bytes of unused blocks.",)
    assert report.free_after.value - report.free_before.value == 400
    assert done == []


async def test_the_processor_is_told_of_for_what_it_is(system: System) -> None:
    system.meter.tell("cpu:0", 1, 1)
    report, _ = await defragment(system, Depth.RELEASE, "cpu")
    assert report.free_after.value == 48 * GIB
    assert "operating system" in report.actions[0]


async def test_reload_names_the_models(system: System) -> None:
    report, done = await defragment(system, Depth.RELOAD)
    assert report.actions[0] == "No model was loaded, so none was moved."
    hold(system, "a", "b")
    report, done = await defragment(system, Depth.RELOAD)
    assert report.actions[0] == "a, b left the device and came back."
    assert done == ["reload"]


async def test_recycling_says_what_was_lost(system: System) -> None:
    system.meter.tell("cuda:0", GIB, GIB // 2, leased=7)
    report, done = await defragment(system, Depth.RECYCLE_WORKER)
    assert done == ["restart"]
    assert report.actions[-1] == "Allocations of 7 bytes were lost with it."
    assert report.free_after.value == GIB


async def test_a_device_that_is_not_there_is_not_defragmented(system: System) -> None:
    with pytest.raises(DeviceNotFound):
        await defragment(system, Depth.RELEASE, "cuda:9")


# The recorder.


async def test_every_byte_has_one_owner(system: System, recorder: MemoryRecorder) -> None:
    system.meter.tell("cuda:0", 1000, 300, reserved=600, allocated=500, leased=150)
    await recorder.sample()
    system.time.seconds += 1
    history = {one.place: one for one in await recorder.analytics()}
    owners = {usage.owner: usage.peak_bytes for usage in history[CARD].owners}
    assert owners == {"leases": 150, "workers": 450, "others": 100}
    assert history[CARD].peak_bytes == 700
    assert history[HOST].peak_bytes == 16 * GIB


async def test_a_restart_takes_the_history_up(system: System, recorder: MemoryRecorder) -> None:
    await recorder.sample()
    recorder.count_eviction(CARD)
    recorder.count_out_of_memory(CARD)
    recorder.write()
    again = MemoryRecorder(
        system.service.monitor,
        system.meter,
        system.inventory,
        recorder._store,
        host_leases=lambda: 0,
        now=lambda: system.time.now().timestamp() + 1,
    )
    again.load()
    (card,) = [one for one in await again.analytics("cuda:0") if one.place == CARD]
    assert (card.eviction_count, card.out_of_memory_count) == (1, 1)


async def test_disk_is_written_every_few_seconds(
    system: System, recorder: MemoryRecorder
) -> None:
    store = recorder._store
    assert isinstance(store, Store)
    for _ in range(11):
        await recorder.sample()
        system.time.seconds += 1
    assert store.writes == 3
    assert len({one.start for one in store.kept if one.resolution == 1}) == 11


@pytest.mark.parametrize(
    "request_", [{"window": 0.5}, {"window": 2_592_001}, {"points": 0}, {"points": 1001}]
)
async def test_analytics_refuse_what_is_out_of_range(
    recorder: MemoryRecorder, request_: dict[str, float]
) -> None:
    with pytest.raises(InvalidMemoryRequest) as caught:
        await recorder.analytics(**request_)  # type: ignore[arg-type]
    assert caught.value.violations[0].field == next(iter(request_))


async def test_evictions_are_counted_where_they_happen(
    system: System, models: ModelsInMemory, recorder: MemoryRecorder
) -> None:
    hold(system, "a", "b", "c")
    await evict(models, 350)
    await recorder.sample()
    system.time.seconds += 1
    (card,) = [one for one in await recorder.analytics() if one.place == CARD]
    assert card.eviction_count == 2


async def test_sessions_that_memory_failed_are_counted_once(
    system: System, recorder: MemoryRecorder
) -> None:
    tasks = Tasks(system.sessions, describe=failure)
    watch = ExhaustionWatch(system.sessions, recorder)

    async def fail(error: DomainError) -> None:
        async def work(session: object) -> None:
            raise error

        plan = SessionPlan(SessionKind.MEMORY_TASK, SessionOptions(), b"", "cuda:0", "", ())
        with suppress(SessionFailed):
            async for _ in tasks.run(plan, work):
                pass

    await fail(ResourceExhausted("full", reason=Reason.DEVICE_OUT_OF_MEMORY))
    await fail(ResourceExhausted("full", reason=Reason.HOST_OUT_OF_MEMORY))
    await fail(ResourceExhausted("full", reason=Reason.QUEUE_FULL))
    watch.look()
    watch.look()
    system.time.seconds += 1
    counts = {one.place: one.out_of_memory_count for one in await recorder.analytics()}
    assert counts == {CARD: 1, HOST: 1}


async def test_advice_is_about_what_was_measured(
    system: System, recorder: MemoryRecorder
) -> None:
    adviser = MemoryAdviser(
        recorder,
        system.service.monitor,
        system.models,
        half_precision=lambda device_id: device_id == "cuda:0",
        profile=lambda _: OptimizationProfile.BALANCED,
        clock=system.time.now,
    )
    assert await adviser.recommendations() == ()
    hold(system, "a")
    system.meter.tell("cuda:0", 1000, 50)
    await recorder.sample()
    system.time.seconds += 1
    found = await adviser.recommendations("cuda:0")
    assert [one.kind for one in found] == [Advice.UNLOAD_MODEL, Advice.SMALLER_DATA_TYPE]
    assert all(one.place == Place("cuda:0") for one in found)
    assert await adviser.recommendations("cpu") == ()
