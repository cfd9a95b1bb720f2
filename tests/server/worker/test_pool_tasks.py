"""Runs that draw nothing: self-tests, profiles, models let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from domains.device.jobs import (
    AttentionBackend,
    OptimizationJob,
    OptimizationReport,
    OptimizationSetting,
    ReleaseJob,
    ReleaseReport,
    SelfTestFacts,
    SelfTestJob,
)
from domains.device.types import OptimizationProfile
from domains.errors import InvalidArgument
from domains.model.jobs import LoadJob, LoadReport
from domains.session.jobs import PeakMemory
from domains.session.types import Phase, PhaseStarted, StepFinished, TransferProgress
from domains.values import ModelOrigin, ModelPlace, TensorDataType
from server.worker.front.pool import WorkerPool
from tests.server.worker.workers import outcome, running, scripted

DEVICE = "cpu:0"


@pytest_asyncio.fixture(scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    async with running(tmp_path_factory.mktemp("spool"), scripted()) as pool:
        yield pool


async def everything(run: AsyncGenerator[object]) -> list[object]:
    """All that a run tells but for the memory it took, which every run tells."""
    return [event async for event in run if not isinstance(event, PeakMemory)]


async def test_a_self_test_tells_its_facts(pool: WorkerPool) -> None:
    *events, facts = await everything(
        pool.run(DEVICE, "session", SelfTestJob(), remaining=60.0)
    )
    assert events == [PhaseStarted(Phase.MEASURING)]
    assert isinstance(facts, SelfTestFacts)
    [data_type] = facts.data_types
    assert (data_type.data_type, data_type.works) == (TensorDataType.FLOAT32, True)
    assert data_type.matmul_tflops == 0.1
    assert facts.largest_allocation.value == 1 << 20
    assert facts.attention_backends == (AttentionBackend.MATH,)
    assert (facts.host_to_device_gbps, facts.device_to_host_gbps) == (1.5, 2.5)
    assert (facts.has_float64, facts.has_pinned_memory) == (True, False)
    assert facts.problems == ("Something is odd.",)
    assert facts.software_versions == {"torch": "0"}


async def test_a_profile_tells_what_it_changed(pool: WorkerPool) -> None:
    work = OptimizationJob(
        OptimizationProfile.LOW_MEMORY, "model", ModelPlace.of(Path("model"))
    )
    *events, report = await everything(pool.run(DEVICE, "session", work, remaining=60.0))
    assert events == [StepFinished(0, 1, 2), StepFinished(0, 2, 2)]
    assert isinstance(report, OptimizationReport)
    assert report.profile is OptimizationProfile.LOW_MEMORY
    [change] = report.changes
    assert change.setting is OptimizationSetting.VAE_TILING
    assert (change.before, change.after) == ("off", "on")
    assert (report.step_before, report.step_after) == (0.5, 0.25)
    assert report.peak_memory_before.value is None


async def test_a_profile_that_fails_is_an_error(pool: WorkerPool) -> None:
    work = OptimizationJob(OptimizationProfile.FAST, "refuse", ModelPlace.of(Path("model")))
    with pytest.raises(InvalidArgument):
        await everything(pool.run(DEVICE, "session", work, remaining=60.0))


async def test_models_let_go_are_gone_from_the_figures(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        other = await everything(
            pool.run(DEVICE, "session", ReleaseJob(("other",)), remaining=60.0)
        )
        assert other[-1] == ReleaseReport(())
        figures = pool.figures(DEVICE)
        assert figures is not None
        assert len(figures.models) == 1
        *_, report = await everything(pool.run(DEVICE, "session", ReleaseJob(), remaining=60.0))
        assert isinstance(report, ReleaseReport)
        assert [item.model_id for item in report.released] == ["model"]
        # Not a beat later: figures are never older than a report.
        figures = pool.figures(DEVICE)
        assert figures is not None
        assert figures.models == ()


async def test_a_load_tells_its_bytes_and_what_is_loaded(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        job = LoadJob("other", ModelPlace.of(Path("other")))
        *events, report = await everything(pool.run(DEVICE, "session", job, remaining=60.0))
        assert events == [
            PhaseStarted(Phase.LOADING_MODEL),
            TransferProgress("unet", 500, 1000),
            TransferProgress("unet", 1000, 1000),
        ]
        assert isinstance(report, LoadReport)
        assert [item.model_id for item in report.loaded] == ["other"]
        assert report.origin is ModelOrigin.DISK
        figures = pool.figures(DEVICE)
        assert figures is not None
        assert figures.models == report.loaded
        again = await everything(pool.run(DEVICE, "again", job, remaining=60.0))
        assert again == [LoadReport(report.loaded, ModelOrigin.LOADED)]


async def test_every_kind_of_run_waits_for_the_one_before(pool: WorkerPool) -> None:
    stepping = asyncio.Event()
    drawing = asyncio.create_task(
        outcome(pool, "slowly", session_id="drawing", on_event=lambda _event: stepping.set())
    )
    await stepping.wait()
    testing = asyncio.create_task(
        everything(pool.run(DEVICE, "testing", SelfTestJob(), remaining=60.0))
    )
    await asyncio.sleep(0.2)
    assert not testing.done()
    pool.cancel(DEVICE, "drawing")
    await drawing
    assert isinstance((await testing)[-1], SelfTestFacts)
