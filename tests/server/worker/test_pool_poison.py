"""Models that cost workers, and what the system has no more of."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from domains.device.jobs import SelfTestJob
from domains.device.types import DeviceState
from domains.errors import (
    Cancelled,
    DomainError,
    FailedPrecondition,
    Internal,
    Reason,
    Unavailable,
)
from domains.inference.jobs import GenerationJob
from domains.values import ModelPlace
from server.worker.front import model_bars
from server.worker.front.model_bars import ModelBarred, WorkerCrashRepeated
from server.worker.front.pool import WorkerPool
from server.worker.front.restart import RestartRules
from tests.scarcity import NoThreads, full_disk
from tests.server.worker.workers import (
    Outcome,
    eventually,
    outcome,
    ready,
    running,
    scripted,
    until,
    work,
)

PROMPT = RestartRules(first_delay=0.02, longest_delay=0.02)


def job(prompt: str, model: Path) -> GenerationJob:
    honest = work(prompt, model_id=model.name)
    return GenerationJob(honest.settings, ModelPlace.of(model))


async def tried(pool: WorkerPool, prompt: str, model: Path) -> Outcome:
    await ready(pool)
    return await outcome(pool, job(prompt, model))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "poison"
    path.mkdir()
    (path / "weights").write_bytes(b"weights")
    return path


async def test_a_model_that_costs_three_workers_is_barred_and_the_device_is_not(
    tmp_path: Path, model: Path
) -> None:
    states: list[DeviceState] = []
    async with running(tmp_path / "spool", scripted(), rules=PROMPT) as pool:
        pool.subscribe(lambda _, status: states.append(status.state))
        first = (await tried(pool, "crash", model)).raised(Unavailable)
        assert first.reason is Reason.WORKER_LOST
        for deaths in ("2", "3"):
            error = (await tried(pool, "crash", model)).raised(WorkerCrashRepeated)
            assert isinstance(error, Internal)
            assert error.reason is Reason.WORKER_CRASH_REPEATED
            assert error.metadata["deaths"] == deaths
        for _ in range(5):
            barred = (await tried(pool, "crash", model)).raised(ModelBarred)
            assert isinstance(barred, FailedPrecondition)
            assert barred.reason is Reason.MODEL_BARRED
            assert "SIGSEGV" in barred.message
        assert pool.status("cpu:0").restart_count == 3
        assert DeviceState.QUARANTINED not in states
        # Every other model goes on.
        assert (await tried(pool, "draw", tmp_path / "good")).report is not None

        (model / "weights").write_bytes(b"mended weights")
        assert (await tried(pool, "draw", model)).report is not None


async def test_an_operator_lifts_a_bar(tmp_path: Path, model: Path) -> None:
    async with running(tmp_path / "spool", scripted(), rules=PROMPT) as pool:
        for _ in range(3):
            await tried(pool, "crash", model)
        (await tried(pool, "draw", model)).raised(ModelBarred)
        await pool.restart("cpu:0")
        assert (await tried(pool, "draw", model)).report is not None


async def test_five_models_that_cost_a_worker_each_put_the_device_out_of_use(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "spool", scripted(), rules=PROMPT) as pool:
        for number in range(5):
            await tried(pool, "crash", tmp_path / f"model{number}")
        await until(pool, lambda status: status.state is DeviceState.QUARANTINED)


async def test_a_kill_in_the_aftermath_is_blamed_on_the_run(
    tmp_path: Path, model: Path
) -> None:
    async with running(tmp_path / "spool", scripted(), rules=PROMPT) as pool:
        for _ in range(3):
            assert (await tried(pool, "draw", model)).report is not None
            process_id = pool.status("cpu:0").process_id
            os.kill(process_id, signal.SIGKILL)
            await until(pool, lambda status: status.process_id not in (0, process_id))  # noqa: B023
        (await tried(pool, "draw", model)).raised(ModelBarred)


async def test_work_that_is_cancelled_while_its_model_is_looked_at_does_not_begin(
    tmp_path: Path, model: Path
) -> None:
    async with running(tmp_path / "spool", scripted(), rules=PROMPT) as pool:
        for _ in range(3):
            await tried(pool, "crash", model)
        await ready(pool)
        (model / "weights").write_bytes(b"mended weights")
        running_job = asyncio.create_task(outcome(pool, job("slowly", model)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        pool.cancel("cpu:0", "session")
        (await running_job).raised(Cancelled)


async def test_a_disk_that_does_not_answer_keeps_no_death_from_being_told(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the model may be why the worker had to end."""
    answers = threading.Event()
    monkeypatch.setattr(model_bars, "states_of", lambda model: answers.wait())
    try:
        async with running(tmp_path / "spool", scripted(), rules=PROMPT) as pool:
            for reason in (Reason.WORKER_LOST, Reason.WORKER_CRASH_REPEATED):
                error = (await tried(pool, "crash", model)).raised(DomainError)
                assert error.reason is reason
            assert (await tried(pool, "draw", model)).report is not None
    finally:
        answers.set()


async def test_without_threads_a_device_waits_and_recovers_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = NoThreads(monkeypatch)
    before = threading.active_count()
    async with running(tmp_path, scripted(), rules=PROMPT) as pool:
        status = await until(pool, lambda status: status.state is DeviceState.RECOVERING)
        assert "no more threads" in status.explanation
        await eventually(lambda: threads.refused > 20)
        assert pool.status("cpu:0").state is DeviceState.RECOVERING
        assert pool.status("cpu:0").process_id == 0
        assert threading.active_count() <= before
        threads.on = False
        await ready(pool)
        assert (await outcome(pool)).report is not None
    log = capsys.readouterr().out
    assert log.count("worker_starved ") == 1
    assert "worker_starved_no_more" in log


@pytest.mark.parametrize("number", range(4))
async def test_whichever_thread_is_missing_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    names = ("worker-output", "worker-exit", "worker-link", "worker-orders")
    allowed = (*names[:number], "asyncio_0", "asyncio_1", "asyncio_2", "asyncio_3")
    threads = NoThreads(monkeypatch, *allowed)
    handles = len(os.listdir("/proc/self/fd"))
    async with running(tmp_path, scripted(), rules=PROMPT) as pool:
        await eventually(lambda: threads.refused >= 4)
        threads.on = False
        await ready(pool)
    # Streams of workers that never lived are closed; a few of the loop's own may come.
    assert len(os.listdir("/proc/self/fd")) <= handles + 2


async def test_without_disk_a_device_waits_and_recovers_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = RestartRules(first_delay=0.02, longest_delay=0.02)
    with monkeypatch.context() as patched:
        patched.setattr("server.worker.front.spool.Spool.folder_of", full_disk)
        async with running(tmp_path, scripted(), rules=rules) as pool:
            status = await until(pool, lambda status: status.state is DeviceState.RECOVERING)
            assert "disk is full" in status.explanation
            patched.undo()
            await ready(pool)


async def test_a_listener_that_fails_stops_nothing(tmp_path: Path) -> None:
    def fail(device_id: str, status: object) -> None:
        raise ZeroDivisionError

    async with running(tmp_path, scripted()) as pool:
        pool.subscribe(fail)
        await ready(pool)
        assert (await outcome(pool)).report is not None


async def test_a_place_that_fails_is_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(*_: object, **__: object) -> None:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError

    monkeypatch.setattr("server.worker.front.judge.Judge.started", fail)
    async with running(tmp_path, scripted()) as pool:
        await eventually(failed.is_set)
        assert (await outcome(pool, SelfTestJob())).error is None  # type: ignore[arg-type]
