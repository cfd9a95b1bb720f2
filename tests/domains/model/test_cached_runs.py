"""Jobs get their models out of the cache, and run without it as well."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from domains.device.jobs import ReleaseJob, ReleaseReport
from domains.errors import Cancelled, DeadlineExceeded, Unavailable
from domains.model.core.cached_runs import CachedRuns
from domains.model.errors import CachedModelInUse
from domains.model.jobs import LoadJob, LoadReport
from domains.model.types import FileState
from domains.session.jobs import Job, WorkPaused
from domains.session.types import Phase, PhaseStarted, TransferProgress
from domains.values import ModelOrigin, ModelPlace
from tests.domains.model.test_cache import MIB, PATIENCE, Kept, kept, until

__all__ = ["kept"]  # a fixture

CARD, CPU = "cuda:0", "cpu:0"


@dataclass
class FakeWorkers:
    """Reports at once what it is told to; waits for `go` before that."""

    origin: ModelOrigin = ModelOrigin.CACHED
    lock_problem: str | None = None
    error: Exception | None = None
    jobs: list[Job[Any]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        self.jobs.append(job)
        self.left.append(remaining)
        yield PhaseStarted(Phase.LOADING_MODEL)
        await self.go.wait()
        if self.error is not None:
            raise self.error
        if isinstance(job, LoadJob):
            yield LoadReport((), self.origin, lock_problem=self.lock_problem)
        else:
            yield ReleaseReport(())

    def cancel(self, device_id: str, session_id: str) -> None:
        self.cancelled.append(session_id)

    def pause(self, device_id: str, session_id: str) -> None:
        self.paused.append(session_id)


@dataclass
class System:
    kept: Kept
    workers: FakeWorkers
    runs: CachedRuns
    held: set[tuple[str, str]]

    def job(self, name: str = "one", size: int = 3 * MIB) -> LoadJob:
        return LoadJob(name, self.kept.model(name, size))

    def run(self, job: Job[Any], device: str = CARD, remaining: float = PATIENCE) -> Any:
        return self.runs.run(device, "session", job, remaining=remaining)

    async def done(self, job: Job[Any], device: str = CARD) -> list[Any]:
        self.workers.go.set()
        async with aclosing(self.run(job, device)) as events:
            return [event async for event in events]

    @property
    def given(self) -> Any:
        """What the last job was given of the cache."""
        return getattr(self.workers.jobs[-1], "cached", None)


@pytest.fixture
async def system(kept: Kept) -> System:
    workers, held = FakeWorkers(), set[tuple[str, str]]()
    runs = CachedRuns(
        workers,
        kept.cache,
        holds=lambda *one: one in held,
        wants=lambda device_id: device_id == CARD,
        size_of=lambda model_id: (kept.folder / model_id).stat().st_size,
    )
    return System(kept, workers, runs, held)


async def test_a_model_is_read_first_where_its_device_has_memory_of_its_own(
    system: System,
) -> None:
    events = await system.done(system.job())

    assert events[0] == PhaseStarted(Phase.READING)
    assert events[1:-2]
    assert all(isinstance(one, TransferProgress) for one in events[1:-2])
    assert events[-3].done_bytes == events[-3].total_bytes == 3 * MIB
    assert events[-2] == PhaseStarted(Phase.LOADING_MODEL)
    assert system.given.files[0].size_bytes == 3 * MIB
    status = await system.kept.cache.status()
    assert (status.hit_count, status.miss_count) == (1, 0)


async def held(system: System) -> None:
    system.held.add((CARD, "one"))


async def cached(system: System) -> None:
    await system.kept.keep("one")


async def another_cached(system: System) -> None:
    await system.kept.keep("two", 9 * MIB)


async def another_pinned(system: System) -> None:
    await another_cached(system)
    system.kept.cache.pin("two", True)


async def no_budget(system: System) -> None:
    await system.kept.cache.set_budget(0)


@pytest.mark.parametrize(
    ("before", "device", "size", "reads"),
    [
        (None, CARD, 3 * MIB, True),
        (None, CARD, 11 * MIB, False),
        (None, CPU, 3 * MIB, False),
        (held, CARD, 3 * MIB, False),
        (cached, CARD, 3 * MIB, False),
        (another_cached, CARD, 3 * MIB, True),
        (another_pinned, CARD, 3 * MIB, False),
        (no_budget, CARD, 3 * MIB, False),
    ],
)
async def test_the_phases_to_expect_are_those_that_come(
    system: System, before: Any, device: str, size: int, reads: bool
) -> None:
    job = system.job(size=size)
    if before is not None:
        await before(system)

    expected = system.runs.loading(device, "one")
    events = await system.done(job, device)

    assert expected == tuple(one.phase for one in events if isinstance(one, PhaseStarted))
    assert (Phase.READING in expected) is reads


async def test_the_cache_counts_as_page_locked_once_a_worker_says_so(system: System) -> None:
    job, cache = system.job(), system.kept.cache
    for problem, locked in ((None, False), ("", True), (None, True), ("It cannot.", False)):
        system.workers.lock_problem = problem
        await system.done(job)
        found = await cache.status()
        assert found.page_locked is locked
        assert bool(found.remark) is not locked
    assert found.remark == "It cannot."


async def test_what_is_cached_is_not_read_again(system: System) -> None:
    job = system.job()
    await system.done(job)

    events = await system.done(job)

    assert events[0] == PhaseStarted(Phase.LOADING_MODEL)
    assert system.given is not None
    assert (await system.kept.cache.status()).entries[0].hit_count == 2


async def test_nothing_is_read_for_a_device_that_holds_the_model_or_shares_main_memory(
    system: System,
) -> None:
    system.held.add((CARD, "one"))
    job = system.job()
    system.workers.origin = ModelOrigin.DISK

    for device in (CARD, CPU):
        assert len(await system.done(job, device)) == 2
        assert system.given is None
    assert system.kept.names == []
    assert (await system.kept.cache.status()).miss_count == 2


async def test_a_processor_loads_what_a_client_has_cached(system: System) -> None:
    job = system.job()
    await system.kept.keep("one")

    await system.done(job, CPU)

    assert system.given is not None


async def test_a_model_stays_while_its_job_runs_however_that_ends(system: System) -> None:
    job = system.job()
    await system.kept.keep("one")
    system.workers.error = Unavailable("The worker was lost.")

    async with aclosing(system.run(job)) as events:
        assert await anext(events) == PhaseStarted(Phase.LOADING_MODEL)
        with pytest.raises(CachedModelInUse):
            await system.kept.cache.evict("one")
        system.workers.go.set()
        with pytest.raises(Unavailable):
            await anext(events)

    assert await system.kept.cache.evict("one") == 3 * MIB


async def test_a_caller_that_goes_leaves_no_lease(system: System) -> None:
    job = system.job()
    await system.kept.keep("one")
    async with aclosing(system.run(job)) as events:
        await anext(events)

    await until(lambda: not any(entry.in_use for entry in system.kept.cache.entries()))


async def test_what_has_no_room_is_the_workers_to_read(system: System) -> None:
    events = await system.done(system.job("big", 11 * MIB))

    assert events[0] == PhaseStarted(Phase.LOADING_MODEL)
    assert system.given is None


async def test_what_cannot_be_read_is_the_workers_to_refuse(system: System) -> None:
    job = system.job()
    (system.kept.folder / "one").unlink()

    events = await system.done(job)

    assert isinstance(events[-1], LoadReport)
    assert system.given is None


async def test_a_job_without_a_model_goes_straight_to_its_worker(system: System) -> None:
    assert isinstance((await system.done(ReleaseJob()))[-1], ReleaseReport)


async def reading(system: System, remaining: float = PATIENCE) -> asyncio.Task[list[Any]]:
    """A job whose model is being read, and never will be."""
    system.kept.reader.go.clear()

    async def run() -> list[Any]:
        job = system.job(size=9 * MIB)
        async with aclosing(system.run(job, remaining=remaining)) as events:
            return [event async for event in events]

    task = asyncio.create_task(run())
    await asyncio.to_thread(system.kept.reader.begun.wait, PATIENCE)
    return task


async def test_a_cancel_stops_the_reading_and_nothing_is_left(system: System) -> None:
    task = await reading(system)

    system.runs.cancel(CARD, "other")
    system.runs.cancel(CARD, "session")
    with pytest.raises(Cancelled):
        await task

    assert system.workers.cancelled == ["other"]
    assert system.workers.jobs == []
    system.kept.reader.go.set()
    await until(lambda: system.kept.cache.used_bytes == 0)
    assert system.kept.taken == 0


async def test_a_cancel_later_is_the_workers(system: System) -> None:
    job = system.job()
    await system.kept.keep("one")
    async with aclosing(system.run(job)) as events:
        await anext(events)
        system.runs.cancel(CARD, "session")

    assert system.workers.cancelled == ["session"]


async def test_a_pause_ends_the_reading_at_once(system: System) -> None:
    task = await reading(system)

    system.runs.pause(CARD, "session")
    with pytest.raises(WorkPaused):
        await task
    assert system.workers.jobs == system.workers.paused == []


async def test_a_pause_after_the_reading_is_the_workers(system: System) -> None:
    async with aclosing(system.run(system.job(), CPU)) as events:
        await anext(events)
        system.runs.pause(CPU, "session")

    assert system.workers.paused == ["session"]


async def test_the_time_of_the_work_includes_the_reading(system: System) -> None:
    task = await reading(system, remaining=0.2)

    with pytest.raises(DeadlineExceeded):
        await task
    assert system.workers.jobs == []


async def test_a_caller_that_is_cancelled_while_it_is_read_leaves_nothing(
    system: System,
) -> None:
    task = await reading(system)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    system.kept.reader.go.set()
    await until(lambda: system.kept.cache.used_bytes == 0)


def test_the_place_of_a_job_is_a_model_place(tmp_path: Path) -> None:
    """What is given a model's cache says where it lies: both fields, or neither."""
    from tests.server.worker.test_frames import JOBS

    with_cache = [job for job in JOBS if "cached" in job.__struct_fields__]
    assert LoadJob in with_cache
    assert all("place" in job.__struct_fields__ for job in with_cache)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("turns", range(4))
async def test_a_run_that_is_cancelled_as_its_model_is_found_holds_it_no_longer(
    system: System, monkeypatch: pytest.MonkeyPatch, turns: int, outside: bool
) -> None:
    await system.kept.keep("one")
    answered = asyncio.Event()

    async def look(place: ModelPlace, files: Collection[FileState]) -> bool:
        await answered.wait()
        return True

    monkeypatch.setattr(system.kept.states, "unchanged_lately", look)
    job = LoadJob("one", ModelPlace(system.kept.folder, Path("one")))
    running = asyncio.create_task(system.done(job))
    for _ in range(5):
        await asyncio.sleep(0)
    answered.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    if outside:
        running.cancel()
    else:
        system.runs.cancel(CARD, "session")
    await asyncio.wait({running})

    assert await system.kept.cache.evict("one") == 3 * MIB


async def test_a_disk_that_hangs_takes_no_threads_from_the_rest_of_the_server(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()

    def files(place: ModelPlace) -> tuple[FileState, ...]:
        hang.wait(PATIENCE)
        return ()

    monkeypatch.setattr(system.kept.reader, "files", files)
    system.workers.go.set()
    job = system.job()
    try:
        for _ in range(40):  # more than asyncio has
            with pytest.raises(DeadlineExceeded):
                [event async for event in system.run(job, remaining=0.001)]
        async with asyncio.timeout(10):
            await system.kept.cache.status()
    finally:
        hang.set()
