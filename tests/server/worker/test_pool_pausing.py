"""Asking a run to pause: it ends where its work can go on, and its worker is free."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from domains.errors import Cancelled, Reason, Unavailable
from domains.inference.jobs import PausedGeneration, Timings
from domains.session.jobs import PeakMemory, WorkPaused
from domains.session.types import StepFinished
from server.worker.front.pool import WorkerPool
from tests.fakes.scripted_worker import ScriptedStretch
from tests.server.worker.workers import Outcome, outcome, ready, running, scripted


async def stepping(pool: WorkerPool) -> asyncio.Task[Outcome]:
    """A run that steps until it is stopped, once it has made a step."""
    begun = asyncio.Event()

    def heard(event: object) -> None:
        if isinstance(event, StepFinished):
            begun.set()

    task = asyncio.create_task(outcome(pool, "slowly", on_event=heard))
    await begun.wait()
    return task


async def test_a_run_pauses_and_its_worker_does_other_work(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        process_id = (await ready(pool)).process_id
        task = await stepping(pool)
        pool.pause("cpu:0", "another")
        pool.pause("cuda:7", "session")  # neither is there
        pool.pause("cpu:0", "session")
        result = await task
        assert result.paused == PausedGeneration(Timings(denoise=0.25), kept_steps=1)
        assert result.report is None
        assert result.events[-1] == PeakMemory(ScriptedStretch().peak())
        assert (await outcome(pool)).report is not None
        assert pool.status("cpu:0").process_id == process_id


async def test_a_run_that_waits_pauses_without_a_worker(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        first = await stepping(pool)
        second = asyncio.create_task(outcome(pool, session_id="second"))
        await asyncio.sleep(0)
        pool.pause("cpu:0", "second")
        with pytest.raises(WorkPaused):
            await second
        pool.cancel("cpu:0", "session")
        (await first).raised(Cancelled)


async def test_a_cancel_counts_for_more_than_a_pause(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        task = await stepping(pool)
        pool.cancel("cpu:0", "session")
        pool.pause("cpu:0", "session")
        (await task).raised(Cancelled)


async def test_work_that_ends_first_is_done(tmp_path: Path) -> None:
    """A pause that comes too late changes nothing, and is none of the next run's matter."""
    async with running(tmp_path, scripted()) as pool:
        done = await outcome(
            pool, "pause", on_event=lambda event: pool.pause("cpu:0", "session")
        )
        assert done.report is not None  # it looks for no stop
        assert (await outcome(pool)).report is not None


async def test_a_worker_that_pauses_unasked_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        error = (await outcome(pool, "pauses-unasked")).raised(Unavailable)
        assert error.reason is Reason.WORKER_LOST
        assert (await outcome(pool)).report is not None
