"""A run's events between the thread that reads and the loop that takes them."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from domains.errors import Cancelled, ResourceExhausted, Unavailable
from domains.inference.jobs import (
    GenerationReport,
    PausedGeneration,
    PausedPart,
    SharedGenerationJob,
    SharedReport,
    Timings,
)
from domains.inference.types import Computation, PrecisionMode
from domains.session.jobs import JobEvent, PartEnded, SpooledImage
from domains.session.types import (
    ImageDecoded,
    ImageResult,
    Preview,
    StepFinished,
    TextEncoded,
    TransferProgress,
)
from domains.values import ImageFileFormat, ModelOrigin
from server.worker.front.runs import Run
from server.worker.link.frames import ProtocolError
from tests.server.worker.workers import work

REPORT = GenerationReport(
    Timings(), PrecisionMode.EXACT, ModelOrigin.LOADED, data_types=(), computed=Computation()
)


def new_run() -> Run:
    return Run("session", 1, work(), time.monotonic() + 60)


def spooled(index: int, path: Path) -> SpooledImage:
    """A picture in that file."""
    image = ImageResult(index, 7 + index, "0" * 64, ImageFileFormat.PNG, 8, 8, 1)
    return SpooledImage(image, path)


def preview(step: int) -> Preview:
    return Preview(0, step, 8, 8, b"jpeg")


async def everything(run: Run) -> list[JobEvent]:
    """What waits in a run that is over."""
    events: list[JobEvent] = []
    while not isinstance(item := await run.next(), GenerationReport | Exception):
        events.append(item)
    return events


async def test_events_come_before_the_end_whatever_the_thread_does() -> None:
    run = new_run()
    sent: list[JobEvent] = [StepFinished(0, step, 500) for step in range(1, 501)]
    received: list[JobEvent] = []

    def talk() -> None:
        for event in sent:
            while len(run._waiting) > 30:
                time.sleep(0.001)
            run.offer(event)
        run.finish(REPORT)

    thread = threading.Thread(target=talk)
    thread.start()
    async with asyncio.timeout(20):
        while not isinstance(item := await run.next(), GenerationReport):
            assert isinstance(item, StepFinished)
            received.append(item)
        await run.finished.wait()
    thread.join()
    assert received == sent
    assert item is REPORT


async def test_few_waiting_events_are_all_kept() -> None:
    run = new_run()
    sent: list[JobEvent] = [StepFinished(0, step, 60) for step in range(1, 61)]
    for event in sent:
        run.offer(event)
    run.finish(REPORT)
    assert await everything(run) == sent


async def test_when_many_wait_only_the_newest_progress_is_kept() -> None:
    run = new_run()
    for step in range(1, 1001):
        run.offer(StepFinished(0, step, 1000))
        run.offer(preview(step))
    for done in range(1, 1001):
        run.offer(TransferProgress("unet", done, 1000))
    run.offer(ImageDecoded(0))
    run.finish(REPORT)
    events = await everything(run)
    assert len(events) < 100
    steps = [event.step for event in events if isinstance(event, StepFinished)]
    assert steps == sorted(steps)
    assert steps[-1] == 1000
    previews = [event.step for event in events if isinstance(event, Preview)]
    assert previews == [997, 998, 999, 1000]
    moved = [event for event in events if isinstance(event, TransferProgress)]
    assert moved[-1].done_bytes == 1000
    assert events[-1] == ImageDecoded(0)


async def test_a_caller_with_much_to_read_leaves_the_loop_to_others() -> None:
    run = new_run()
    for step in range(1, 51):
        run.offer(StepFinished(0, step, 50))
    run.finish(REPORT)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert len(await everything(run)) == 50
    task.cancel()
    assert turns >= 50


async def test_lasting_events_without_end_are_refused() -> None:
    run = new_run()
    with pytest.raises(ProtocolError):  # noqa: PT012
        for _ in range(100_000):
            run.offer(TextEncoded(cached=False))


async def test_the_first_end_counts() -> None:
    run = new_run()
    run.finish(REPORT)
    run.finish(Unavailable("too late"))
    assert await run.next() is REPORT


async def test_a_stop_that_was_asked_for_is_how_it_ends() -> None:
    run = new_run()
    run.stop_error = Cancelled("stopped")
    run.offer(StepFinished(0, 1, 2))
    run.finish(REPORT)
    assert await run.next() == StepFinished(0, 1, 2)
    assert await run.next() is run.stop_error


def two_parts() -> Run:
    """A run of two generations with two pictures each."""
    return Run("session", 1, SharedGenerationJob((work(), work())), time.monotonic() + 60)


def image(index: int) -> ImageResult:
    seed = 7 + index % 2
    return ImageResult(index, seed, "0" * 64, ImageFileFormat.PNG, 256, 320, 1)


async def test_a_part_ends_once_its_pictures_have_come() -> None:
    run, failed = two_parts(), Unavailable("gone").failure()
    run.end_part(PartEnded(0, failed))
    for index in (2, 3):
        run.check(image(index))
    run.end_part(PartEnded(1, REPORT))
    run.check_complete(SharedReport())
    run.finish(SharedReport())
    assert await run.next() == PartEnded(0, failed)
    assert await run.next() == PartEnded(1, REPORT)


async def test_ends_of_parts_that_cannot_be_are_refused() -> None:
    run = two_parts()
    for index in (0, 1):
        run.check(image(index))
    run.end_part(PartEnded(0, REPORT))
    for again, rule in ((0, "twice"), (1, "without all its pictures"), (2, "not have")):
        with pytest.raises(ProtocolError, match=rule):
            run.end_part(PartEnded(again, REPORT))
    with pytest.raises(ProtocolError, match="not have"):
        new_run().end_part(PartEnded(0, REPORT))


@pytest.mark.parametrize("ended", [(0,), (0, 1)])
async def test_a_report_that_is_at_odds_with_ended_parts_is_refused(
    ended: tuple[int, ...],
) -> None:
    run, failed = two_parts(), Unavailable("gone").failure()
    run.pausing = True
    for part in ended:
        run.end_part(PartEnded(part, failed))
    paused = PausedPart(0, PausedGeneration(Timings()))
    with pytest.raises(ProtocolError, match="other parts"):
        run.check_complete(SharedReport((paused,) if len(ended) == 2 else ()))


async def test_no_part_ends_well_once_the_front_has_ended_the_run() -> None:
    """A picture of it may be what could not be taken."""
    run = two_parts()
    run.stop_error = ResourceExhausted("The disk is full.")
    for index in (0, 1):
        run.check(image(index))
    run.end_part(PartEnded(0, REPORT))
    run.finish(SharedReport())
    assert await run.next() is run.stop_error


async def test_pictures_are_deleted_when_nobody_listens(tmp_path: Path) -> None:
    run = new_run()
    images = []
    for index in (0, 1):
        path = tmp_path / f"{index}.png"
        path.touch()
        images.append(spooled(index, path))
    run.offer(images[0])
    run.close()
    assert not images[0].path.exists()
    run.offer(images[1])
    assert not images[1].path.exists()


async def test_the_mean_step_is_known_from_the_second_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = new_run()
    now = 100.0
    monkeypatch.setattr("server.worker.front.runs.time.monotonic", lambda: now)
    means = []
    for step in (1, 2, 3):
        run.offer(StepFinished(0, step, 3))
        means.append(run.mean_step)
        now += step * 2.0
    assert means == [0.0, 2.0, 3.0]
