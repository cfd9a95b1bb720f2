"""Damaged models in a real worker: each is refused or drawn with, and none costs the worker."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from domains.errors import FailedPrecondition, Reason
from domains.inference.jobs import GenerationJob
from domains.inference.types import Scheduler, SchedulerSettings
from domains.values import ModelPlace
from server.worker.front.pool import WorkerPool
from server.worker.front.timing import WorkerTiming
from tests.domains.inference.backends.mutations import Bench, Mutator, scheduler_of
from tests.domains.model.disk import edit, rewrite_header
from tests.fakes.tiny_models import save_sd1, save_sdxl
from tests.server.worker.workers import outcome, ready, running, work

SEED = 21


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sound")
    return {"sdxl": save_sdxl(folder / "sdxl"), "sd1": save_sd1(folder / "sd1")}


@pytest_asyncio.fixture(scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    spool = tmp_path_factory.mktemp("spool")
    async with running(spool, None, timing=WorkerTiming()) as pool:
        yield pool


def drawing(folder: Path, scheduler: Scheduler = Scheduler.DDIM) -> GenerationJob:
    job = work(
        "an apple",
        width=64,
        height=64,
        steps=2,
        seeds=(7,),
        scheduler=SchedulerSettings(scheduler),
    )
    return replace(job, place=ModelPlace.of(folder))


@pytest.mark.parametrize("data_type", ["BOOL", "I64", "U32"])
async def test_weights_of_any_type_cost_no_worker(
    pool: WorkerPool, models: dict[str, Path], tmp_path: Path, data_type: str
) -> None:
    folder = shutil.copytree(models["sd1"], tmp_path / "model")
    process_id = (await ready(pool)).process_id

    def change(header: dict[str, Any]) -> None:
        for name, entry in header.items():
            if name != "__metadata__":
                entry["dtype"] = data_type

    rewrite_header(folder / "text_encoder" / "model.safetensors", change)
    error = (await outcome(pool, drawing(folder))).raised(FailedPrecondition)
    assert error.reason is Reason.MODEL_DTYPE_UNSUPPORTED
    assert error.metadata["component"] == "text_encoder"
    assert (await ready(pool)).process_id == process_id


async def test_a_model_that_fails_leaves_the_one_before_it_in_the_worker(
    pool: WorkerPool, models: dict[str, Path], tmp_path: Path
) -> None:
    bad = shutil.copytree(models["sdxl"], tmp_path / "bad")
    edit(bad / "tokenizer" / "tokenizer.json", decoder={"type": "Strip"})
    good = drawing(models["sd1"])
    assert (await outcome(pool, good)).report is not None
    held = pool.figures("cpu:0")
    (await outcome(pool, drawing(bad))).raised(FailedPrecondition)
    again = await outcome(pool, good)
    assert again.report is not None
    assert again.report.timings.load == 0
    figures = pool.figures("cpu:0")
    assert held is not None
    assert figures is not None
    names = [[part.component for part in each.models] for each in (held, figures)]
    assert names[0] == names[1] != []


@pytest.mark.demonstration
@pytest.mark.filterwarnings("ignore")
async def test_a_sample_of_damages_costs_no_worker(
    pool: WorkerPool, models: dict[str, Path], tmp_path: Path
) -> None:
    process_id = (await ready(pool)).process_id
    bench = Bench(models, tmp_path)
    drawn = 0
    for mutation in Mutator(models, SEED).mutations(24):
        folder = bench.apply(mutation)
        try:
            scheduler = scheduler_of(folder)
        except (ValueError, AttributeError):
            scheduler = Scheduler.DDIM
        result = await outcome(pool, drawing(folder, scheduler))
        bench.restore(mutation)
        if result.error is None:
            drawn += 1
            continue
        error = result.raised(FailedPrecondition)
        typed = error.reason.value.startswith("MODEL_")
        assert typed or error.reason is Reason.NON_FINITE_OUTPUT, (mutation, error)
    assert 0 < drawn < 24
    assert (await ready(pool)).process_id == process_id
