"""A stop, a deadline or a pause in any phase of a generation, with the real engine: it ends as
it should, and the worker draws the next picture as it drew the one before."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from domains.device.jobs import ReleaseJob
from domains.errors import Cancelled, DeadlineExceeded, Reason
from domains.inference.jobs import Companion, GenerationJob
from domains.inference.types import (
    GuidanceSettings,
    ImageToImage,
    PrecisionMode,
    Refiner,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SecondPass,
    SecondPassUpscale,
)
from domains.model.types import ModelType
from domains.picture.types import PictureFile, PreparedPicture
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelPlace
from server.worker.front.pool import WorkerPool
from server.worker.front.timing import WorkerTiming
from tests.fakes.tiny_models import save_sdxl
from tests.server.worker.workers import Outcome, lives, outcome, ready, running, work

DEMO = Path(__file__).parents[3] / "demo" / "models"
COMMAND = (sys.executable, "-m", "tests.fakes.lingering_worker")
EDGE = 64
GUIDANCE = GuidanceSettings(2.0)
PHASES = (
    Phase.LOADING_MODEL,
    Phase.ENCODING_TEXT,
    Phase.PREPARING_INPUT,
    Phase.DENOISING,
    Phase.REFINING,
    Phase.SECOND_PASS,
    Phase.DECODING,
    Phase.ENCODING_IMAGE,
)


@dataclass
class Drawing:
    """One worker of the product, and what it is to draw."""

    pool: WorkerPool
    root: Path
    plain: GenerationJob
    wanted: list[str] = field(default_factory=list)

    def lingering(self, phase: Phase, how: str) -> GenerationJob:
        """A job that comes through the phase, and stays there."""
        job = self.plain
        if phase is Phase.REFINING:
            refiner = Refiner("emoji-refiner", steps=4, guidance=GUIDANCE)
            place = ModelPlace.of(DEMO / "emoji-refiner")
            job = replace(
                job,
                settings=replace(
                    job.settings,
                    model_id="emoji-xl",
                    steps=4,
                    sdxl=SdxlSettings(refiner=refiner),
                ),
                place=ModelPlace.of(DEMO / "emoji-xl"),
                companions=(Companion("emoji-refiner", ModelType.REFINER, place),),
            )
        if phase is Phase.SECOND_PASS:
            second = SecondPass(
                2.0, SecondPassUpscale.LATENT, strength=0.5, steps=2, guidance=GUIDANCE
            )
            job = replace(job, settings=replace(job.settings, second_pass=second))
        if phase is Phase.PREPARING_INPUT:
            data = bytes(range(256)) * (EDGE * EDGE * 3 // 256)
            sha256 = hashlib.sha256(data).hexdigest()
            (self.root / "start.rgb").write_bytes(data)
            start = ImageToImage(strength=0.5, image=PictureFile(sha256, artifact=False))
            job = replace(
                job,
                settings=replace(job.settings, image_to_image=start),
                picture=PreparedPicture(self.root / "start.rgb", EDGE, EDGE, sha256),
            )
        prompt = f"{how} in {phase.value}"
        return replace(
            job,
            settings=replace(job.settings, prompt=prompt),
            paused_file=self.root / f"{phase.value}.paused",
        )

    async def drawn(self) -> list[str]:
        """The hashes of the plain job's pictures."""
        result = await outcome(self.pool, self.plain)
        assert result.error is None, result.error
        return [image.image.artifact_id for image in result.images]


def begun(result: Outcome) -> list[Phase]:
    return [each.phase for each in result.events if isinstance(each, PhaseStarted)]


@pytest_asyncio.fixture(scope="module")
async def drawing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Drawing]:
    root = tmp_path_factory.mktemp("phases")
    settings = work(
        "a robot",
        model_id="tiny",
        width=EDGE,
        height=EDGE,
        steps=2,
        guidance=GUIDANCE,
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        precision=PrecisionMode.EXACT,
        seeds=(7,),
    )
    plain = replace(settings, place=ModelPlace.of(save_sdxl(root / "tiny")))
    async with running(root / "spool", COMMAND, timing=WorkerTiming()) as pool:
        made = Drawing(pool, root, plain)
        made.wanted = await made.drawn()
        yield made


async def lingered(drawing: Drawing, phase: Phase, act: str) -> Outcome:
    """What becomes of a job that is asked to stop or to pause in that phase."""
    await unloaded(drawing, phase)
    there = asyncio.Event()

    def hear(event: object) -> None:
        if isinstance(event, PhaseStarted) and event.phase is phase:
            there.set()

    async def ask() -> None:
        await there.wait()
        getattr(drawing.pool, act)("cpu:0", "session")

    asking = asyncio.create_task(ask())
    result = await outcome(drawing.pool, drawing.lingering(phase, "wait"), on_event=hear)
    asking.cancel()
    return result


async def unloaded(drawing: Drawing, phase: Phase) -> None:
    """The worker has a model to load where it is to be stopped in that."""
    if phase is Phase.LOADING_MODEL:
        assert (await outcome(drawing.pool, ReleaseJob())).error is None


async def check_next(drawing: Drawing, process_id: int | None) -> None:
    assert await drawing.drawn() == drawing.wanted
    assert drawing.pool.status("cpu:0").process_id == process_id


@pytest.mark.demonstration
@pytest.mark.parametrize("phase", PHASES)
async def test_a_stop(drawing: Drawing, phase: Phase) -> None:
    process_id = (await ready(drawing.pool)).process_id
    result = await lingered(drawing, phase, "cancel")
    result.raised(Cancelled)
    assert begun(result)[-1] is phase
    await check_next(drawing, process_id)


@pytest.mark.demonstration
@pytest.mark.parametrize("phase", PHASES)
async def test_a_pause(drawing: Drawing, phase: Phase) -> None:
    """What is nearly done is finished; all else goes on to the same picture."""
    process_id = (await ready(drawing.pool)).process_id
    result = await lingered(drawing, phase, "pause")
    assert result.error is None, result.error
    assert begun(result)[-1] is phase
    if phase is Phase.ENCODING_IMAGE:
        assert result.report is not None
    else:
        assert result.paused is not None
        assert result.images == []
        assert result.paused.kept_steps == _steps_before(phase)
    await check_next(drawing, process_id)


def _steps_before(phase: Phase) -> int:
    done = {Phase.REFINING: 3, Phase.SECOND_PASS: 2, Phase.DECODING: 2}
    return done.get(phase, 0)


@pytest.mark.demonstration
@pytest.mark.parametrize("phase", PHASES)
async def test_a_deadline(drawing: Drawing, phase: Phase) -> None:
    process_id = (await ready(drawing.pool)).process_id
    remaining = 0.5
    while True:
        await unloaded(drawing, phase)
        job = drawing.lingering(phase, "wait")
        result = await outcome(drawing.pool, job, remaining=remaining)
        error = result.raised(DeadlineExceeded)
        assert error.reason is Reason.DEADLINE_EXPIRED
        if begun(result)[-1:] == [phase]:
            break
        remaining *= 2  # the machine is slow: it did not come that far
    await check_next(drawing, process_id)


@pytest.mark.demonstration
@pytest.mark.parametrize("phase", [Phase.LOADING_MODEL, Phase.DECODING])
async def test_standing_still(drawing: Drawing, tmp_path: Path, phase: Phase) -> None:
    """The worker is ended, what is told names the phase, and the next worker draws the same."""
    async with running(tmp_path, COMMAND, timing=WorkerTiming(hang=6.0)) as pool:
        own = Drawing(pool, drawing.root, drawing.plain)
        process_id = (await ready(pool)).process_id
        result = await outcome(pool, own.lingering(phase, "hang"))
        error = result.raised(DeadlineExceeded)
        assert (error.reason, error.metadata["phase"]) == (Reason.WORKER_HUNG, phase.value)
        assert not lives(process_id)
        assert await own.drawn() == drawing.wanted
