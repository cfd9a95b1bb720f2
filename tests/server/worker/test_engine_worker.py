"""The product's worker: the real engine in a process of its own, with the demo model."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import importlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace
from PIL import Image

from domains.device.jobs import ReleaseJob, ReleaseReport, SelfTestFacts, SelfTestJob
from domains.errors import Cancelled, FailedPrecondition, ResourceExhausted
from domains.inference.jobs import GenerationJob
from domains.inference.types import GuidanceSettings, Scheduler, SchedulerSettings
from domains.memory.backends.segments import HostSegments
from domains.memory.types import BufferRegion, Compare, Move, SegmentRegion
from domains.session.types import Phase, PhaseStarted, Preview, PreviewSettings, StepFinished
from domains.values import ModelPlace, TensorDataType
from server.worker.child.__main__ import build_parts
from server.worker.front.pool import WorkerPool
from server.worker.front.timing import WorkerTiming
from server.worker.link.jobs import JOBS
from tests.server.worker.workers import lives, outcome, ready, running, work

NO_PREVIEWS = PreviewSettings()
MODEL = Path(__file__).parents[3] / "demo" / "models" / "emoji-xl"


def drawing(
    *,
    model_path: Path = MODEL,
    previews: PreviewSettings = NO_PREVIEWS,
    **changes: object,
) -> GenerationJob:
    values: dict[str, object] = {
        "height": 256,
        "guidance": GuidanceSettings(6.0),
        "scheduler": SchedulerSettings(Scheduler.EULER_DISCRETE),
    }
    prompt = "red apple on a blue background"
    return replace(
        work(prompt, **(values | changes)), place=ModelPlace.of(model_path), previews=previews
    )


def _colour(picture: Image.Image, x: int, y: int) -> tuple[int, int, int]:
    red, green, blue = picture.tobytes()[3 * (y * picture.width + x) :][:3]
    return red, green, blue


@pytest_asyncio.fixture(scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    spool = tmp_path_factory.mktemp("spool")
    async with running(spool, None, timing=WorkerTiming()) as pool:
        yield pool


async def test_it_draws_what_was_asked_for(pool: WorkerPool) -> None:
    result = await outcome(pool, drawing(steps=8, seeds=(7,), previews=PreviewSettings(4, 64)))
    assert result.error is None
    phases = [event.phase for event in result.events if isinstance(event, PhaseStarted)]
    assert phases[:2] == [Phase.LOADING_MODEL, Phase.ENCODING_TEXT]
    steps = [event for event in result.events if isinstance(event, StepFinished)]
    assert [event.step for event in steps] == list(range(1, 9))
    previews = [event for event in result.events if isinstance(event, Preview)]
    assert [event.step for event in previews] == [4, 8]
    [image] = result.images
    with Image.open(image.path) as picture:
        assert (picture.format, picture.size) == ("PNG", (256, 256))
        small = picture.convert("RGB").resize((16, 16), Image.Resampling.BOX)
    red, green, blue = _colour(small, 0, 0)
    assert blue > max(red, green) + 40  # the background
    red, green, blue = _colour(small, 8, 8)
    assert red > max(blue, green) + 40  # the apple
    assert result.report is not None
    assert result.report.timings.denoise > 0


def test_what_it_imports_is_never_looked_through_for_garbage() -> None:
    importlib.import_module("peft")  # other tests here need it; a worker would go without
    gc.unfreeze()
    build_parts("cpu")
    assert gc.get_freeze_count() > 100_000
    assert gc.isenabled()


async def test_it_names_the_software_that_computes(pool: WorkerPool) -> None:
    versions = (await ready(pool)).software_versions
    assert {"python", "torch", "diffusers", "transformers"} <= versions.keys()


async def test_it_stops_within_a_step(pool: WorkerPool) -> None:
    process_id = (await ready(pool)).process_id
    stepping = asyncio.Event()
    run = asyncio.create_task(
        outcome(
            pool,
            drawing(steps=150),
            on_event=lambda event: stepping.set() if isinstance(event, StepFinished) else None,
        )
    )
    await stepping.wait()
    pool.cancel("cpu:0", "session")
    result = await run
    result.raised(Cancelled)
    steps = [event for event in result.events if isinstance(event, StepFinished)]
    assert len(steps) < 20
    assert lives(process_id)


async def test_a_model_that_cannot_be_loaded_is_an_error_and_no_more(
    pool: WorkerPool, tmp_path: Path
) -> None:
    process_id = (await ready(pool)).process_id
    result = await outcome(pool, drawing(model_path=tmp_path))
    error = result.raised(FailedPrecondition)
    assert str(tmp_path) not in error.message
    assert pool.status("cpu:0").process_id == process_id


async def test_memory_is_lent_and_filled_while_it_draws(pool: WorkerPool) -> None:
    size = 256 << 20
    segments = HostSegments()
    segment = await segments.allocate(size)
    pattern = hashlib.sha256(b"a pattern").digest() * (1 << 15)  # 1 MiB
    for offset in range(0, size, len(pattern)):
        segments.write(SegmentRegion(segment, offset), pattern)
    stepping = asyncio.Event()
    run = asyncio.create_task(
        outcome(
            pool,
            drawing(steps=150),
            on_event=lambda event: stepping.set() if isinstance(event, StepFinished) else None,
        )
    )
    await stepping.wait()
    await pool.allocate("cpu:0", "small", 1 << 20)
    assert await pool.free("cpu:0", "small") == 1 << 20
    await pool.allocate("cpu:0", "large", size)
    figures = pool.figures("cpu:0")
    assert figures is not None
    assert figures.leased_bytes == size
    assert figures.reserved.value is not None
    assert figures.reserved.value > size  # resident: its pages are really there
    for source, target in (
        (SegmentRegion(segment), BufferRegion("large")),
        (BufferRegion("large"), SegmentRegion(segment)),
    ):
        steps = [step async for step in pool.move("cpu:0", Move(source, target, size))]
        assert len(steps) > 1
        assert steps[-1] == size
    both = Compare(SegmentRegion(segment), BufferRegion("large"), size)
    assert [step async for step in pool.compare("cpu:0", both)][-1] == size
    last = SegmentRegion(segment, size - len(pattern))
    assert segments.read(last, len(pattern)) == pattern
    assert not run.done()
    assert await pool.free("cpu:0", "large") == size
    pool.cancel("cpu:0", "session")
    await run
    segments.close()


async def test_what_does_not_fit_is_refused_and_the_next_works(pool: WorkerPool) -> None:
    with pytest.raises(ResourceExhausted):
        await pool.allocate("cpu:0", "huge", 1 << 44)
    await pool.allocate("cpu:0", "small", 1000)
    assert await pool.free("cpu:0", "small") == 1000
    assert (await outcome(pool, drawing(steps=1, seeds=(1,)))).report is not None


async def test_models_it_holds_are_told_and_let_go(pool: WorkerPool) -> None:
    await outcome(pool, drawing(steps=1, seeds=(1,)))
    figures = pool.figures("cpu:0")
    assert figures is not None
    held = {component.component: component for component in figures.models}
    assert {"unet", "vae", "text_encoder"} <= held.keys()
    weights = sum(component.size.value or 0 for component in held.values())
    assert weights > 10 << 20
    assert not any(component.in_use for component in held.values())
    run = pool.run("cpu:0", "session", ReleaseJob(), remaining=60.0)
    *_, report = [event async for event in run]
    assert isinstance(report, ReleaseReport)
    assert {component.component for component in report.released} == held.keys()
    figures = pool.figures("cpu:0")
    assert figures is not None
    assert figures.models == ()


async def test_its_self_test_takes_seconds(pool: WorkerPool) -> None:
    run = pool.run("cpu:0", "session", SelfTestJob(), remaining=60.0)
    *_, facts = [event async for event in run]
    assert isinstance(facts, SelfTestFacts)
    assert {fact.data_type for fact in facts.data_types if fact.works} >= {
        TensorDataType.FLOAT32
    }


def test_what_a_worker_can_be_asked_is_what_it_can_do() -> None:
    assert set(build_parts("cpu").handlers) == set(JOBS)
