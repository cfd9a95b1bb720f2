"""Batches whose items may share passes: one job for all, one by one where that ends badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from domains.errors import Cancelled, DomainError, FailedPrecondition, Reason, Unavailable
from domains.inference.jobs import (
    GenerationReport,
    PausedGeneration,
    PausedPart,
    SharedGenerationJob,
    SharedReport,
    Timings,
)
from domains.inference.types import (
    Computation,
    GenerationFacts,
    GenerationSettings,
    PrecisionMode,
)
from domains.inference.types.batches import BatchComputation, GenerationBatchReport
from domains.session.errors import SessionFailed
from domains.session.jobs import Job, PartEnded, SpooledImage
from domains.session.types import (
    Completed,
    ImageFinished,
    ImageResult,
    ItemFinished,
    SessionEvent,
    SessionState,
    StepFinished,
    TextEncoded,
)
from domains.values import DegradationKind, ImageFileFormat, ModelOrigin
from tests.domains.inference.conftest import MODEL, Bench, request
from tests.domains.inference.test_batches import batch, draw, ended, run

THROUGHPUT = {"computation": BatchComputation.THROUGHPUT}
CAT = GenerationSettings(prompt="a cat", steps=2, seed=1)
DOGS = GenerationSettings(prompt="dogs", steps=2, seeds=(8, 9))
NO_NUMBER = FailedPrecondition("nan", reason=Reason.NON_FINITE_OUTPUT).failure()


@dataclass
class SharingPool:
    """A worker that draws several generations, their pictures from the last to the first."""

    works: list[SharedGenerationJob] = field(default_factory=list)
    failing: frozenset[str] = frozenset()
    ending: dict[int, DomainError] = field(default_factory=dict)
    """What whole jobs end with, after their first picture, by how many they draw."""
    late: bool = False
    """Whether that comes after the end of what has that picture was told."""
    together: int = 2
    pausing: bool = False
    stopped: bool = False
    hold: asyncio.Event | None = None
    holding: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        assert isinstance(job, SharedGenerationJob)
        self.works.append(job)
        pictures = [
            (first + index, seed, one)
            for first, one in zip(job.firsts, job.jobs, strict=True)
            for index, seed in enumerate(one.settings.seeds)
            if one.settings.prompt not in self.failing and first + index not in job.finished
        ]
        yield TextEncoded(cached=False)
        for part, one in enumerate(job.jobs):
            if one.settings.prompt in self.failing:
                yield PartEnded(part, NO_NUMBER)
        report = GenerationReport(
            Timings(denoise=1.0),
            PrecisionMode.EXACT,
            ModelOrigin.LOADED,
            (),
            computed=Computation(most_together=self.together),
        )
        for index, seed, one in reversed(pictures):
            yield StepFinished(index, 1, 2, 0.25)
            width, height = one.settings.size
            image = ImageResult(index, seed, "a" * 64, ImageFileFormat.PNG, width, height, 10)
            assert job.accepts(image)
            yield SpooledImage(image, Path("x"))
            error = self.ending.get(len(job.jobs))
            if error is not None and not self.late:
                raise error
            if index in job.firsts:
                yield PartEnded(job.at(index), report)
            if error is not None:
                raise error
            if self.hold is not None:
                self.holding.set()
                await self.hold.wait()
            if self.stopped:
                raise Cancelled("stopped")
            if self.pausing:
                yield SharedReport((PausedPart(0, PausedGeneration(Timings(denoise=2.0))),))
                return
        yield SharedReport()

    def loading(self, device_id: str, *model_ids: str) -> tuple[Any, ...]:
        return ()

    def pause(self, device_id: str, session_id: str) -> None:
        self.pausing = True
        if self.hold is not None:
            self.hold.set()

    def cancel(self, device_id: str, session_id: str) -> None:
        self.stopped = True
        if self.hold is not None:
            self.hold.set()


@pytest.fixture
def pool(bench: Bench) -> SharingPool:
    """In the place of the bench's worker."""
    pool = SharingPool()
    bench.batches._drawing._pool = pool  # type: ignore[assignment]
    return pool


def drawn(events: list[SessionEvent]) -> list[tuple[str, int, int | None]]:
    return [
        (event.item_id, event.event.image.image_index, event.event.image.seed)
        for event in events
        if isinstance(event.event, ImageFinished)
    ]


def end(events: list[SessionEvent]) -> Completed:
    last = events[-1].event
    assert isinstance(last, Completed)
    return last


async def test_all_items_are_one_job_and_pictures_find_their_items(
    bench: Bench, pool: SharingPool
) -> None:
    events = await draw(bench, batch(CAT, DOGS, **THROUGHPUT))

    (job,) = pool.works
    assert [one.settings.prompt for one in job.jobs] == ["a cat", "dogs"]
    assert drawn(events) == [("1", 2, 9), ("1", 1, 8), ("0", 0, 1)]
    steps = [event.item_id for event in events if isinstance(event.event, StepFinished)]
    assert steps == ["1", "1", "0"]
    texts = [event.item_id for event in events if isinstance(event.event, TextEncoded)]
    assert texts == [""], "nobody knows whose it was"
    assert [one.done for one in ended(events)] == [1, 2]
    assert end(events).report == GenerationBatchReport(2, 0)


async def test_pictures_are_in_order_at_the_end(bench: Bench, pool: SharingPool) -> None:
    events = await draw(bench, batch(CAT, DOGS, **THROUGHPUT))
    assert [one.image_index for one in end(events).images] == [0, 1, 2]
    assert [one.image_index for one in ended(events)[0].images] == [1, 2]


def order(events: list[SessionEvent]) -> list[tuple[type, str]]:
    """Which items' pictures and ends came, one after the other."""
    return [
        (type(event.event), event.item_id)
        for event in events
        if isinstance(event.event, ImageFinished | ItemFinished)
    ]


async def test_an_item_is_told_as_soon_as_it_has_ended(bench: Bench, pool: SharingPool) -> None:
    events = await draw(bench, batch(CAT, DOGS, **THROUGHPUT))
    assert order(events) == [
        (ImageFinished, "1"),
        (ImageFinished, "1"),
        (ItemFinished, "1"),
        (ImageFinished, "0"),
        (ItemFinished, "0"),
    ]
    assert [image.image_index for image in ended(events)[0].images] == [1, 2]
    assert all(isinstance(one.report, GenerationFacts) for one in ended(events))


async def test_one_fails_alone_and_is_told_then(bench: Bench, pool: SharingPool) -> None:
    pool.failing = frozenset({"a cat"})
    events = await draw(bench, batch(CAT, DOGS, **THROUGHPUT))
    assert order(events)[0] == (ItemFinished, "0")
    first, second = ended(events)
    assert (first.failure, second.failure) == (NO_NUMBER, None)
    assert (first.failed, second.failed) == (1, 1)
    assert end(events).report == GenerationBatchReport(1, 1)


async def test_a_cancelled_batch_keeps_what_had_ended(bench: Bench, pool: SharingPool) -> None:
    pool.hold = asyncio.Event()
    events: list[SessionEvent] = []

    async def follow() -> None:
        async for event in run(bench, batch(DOGS, CAT, **THROUGHPUT)):
            events.append(event)

    call = asyncio.create_task(follow())
    await pool.holding.wait()
    (session,) = bench.sessions.all()
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    with pytest.raises(Cancelled):
        await call
    assert [(one.item_id, one.failure, one.done) for one in ended(events)] == [("1", None, 1)]
    assert len(pool.works) == 1


async def test_what_shared_says_nothing_about_a_picture_alone(
    bench: Bench, pool: SharingPool
) -> None:
    await draw(bench, batch(CAT, DOGS, **THROUGHPUT))
    assert bench.sessions.speeds.lessons == 0
    pool.together = 1
    await draw(bench, batch(CAT, DOGS, **THROUGHPUT))
    assert bench.sessions.speeds.lessons == 2


async def test_after_a_lost_worker_items_are_drawn_one_by_one(
    bench: Bench, pool: SharingPool
) -> None:
    """The last picture of "1" is out already and is not drawn again; what drew both pictures
    of "2" is not known any more."""
    pool.ending = {3: Unavailable("gone", reason=Reason.WORKER_LOST)}
    events = await draw(bench, batch(CAT, DOGS, structs.replace(CAT, seed=4), **THROUGHPUT))

    assert [[one.settings.prompt for one in job.jobs] for job in pool.works] == [
        ["a cat", "dogs", "a cat"],
        ["a cat"],
        ["dogs"],
    ]
    assert sorted(drawn(events)) == [("0", 0, 1), ("1", 1, 8), ("1", 2, 9), ("2", 3, 4)]
    last = ended(events)[2]
    assert (last.item_id, last.failure, last.report) == ("2", None, None)
    (less,) = end(events).degradations
    assert less.kind is DegradationKind.SHARED_LESS
    assert "WORKER_LOST" in less.detail


async def test_an_item_whose_worker_was_lost_behind_a_picture_teaches_nothing(
    bench: Bench, pool: SharingPool
) -> None:
    pool.together = 1
    pool.ending = {2: Unavailable("gone", reason=Reason.WORKER_LOST)}
    events = await draw(bench, batch(CAT, DOGS, **THROUGHPUT))
    assert end(events).report == GenerationBatchReport(2, 0)
    assert [sorted(job.finished) for job in pool.works] == [[], [], [1]]
    assert bench.sessions.speeds.lessons == 1


async def test_what_had_ended_before_a_lost_worker_is_not_drawn_again(
    bench: Bench, pool: SharingPool
) -> None:
    pool.ending = {3: Unavailable("gone", reason=Reason.WORKER_LOST)}
    pool.late = True
    events = await draw(bench, batch(DOGS, CAT, structs.replace(CAT, seed=4), **THROUGHPUT))

    assert [len(job.jobs) for job in pool.works] == [3, 1, 1]
    assert [one.item_id for one in ended(events)] == ["2", "0", "1"]
    assert all(isinstance(one.report, GenerationFacts) for one in ended(events))
    assert end(events).report == GenerationBatchReport(3, 0)
    assert bench.sessions.speeds.lessons == 0


async def test_a_worker_lost_after_its_last_item_costs_nothing(
    bench: Bench, pool: SharingPool
) -> None:
    error = Unavailable("gone", reason=Reason.WORKER_LOST)
    pool.ending, pool.late = {1: error, 2: error}, True
    events = await draw(bench, batch(CAT, CAT, **THROUGHPUT))
    assert [one.failure for one in ended(events)] == [None, None]
    assert end(events).report == GenerationBatchReport(2, 0)


async def test_an_item_that_ends_every_worker_fails_alone(
    bench: Bench, pool: SharingPool
) -> None:
    error = Unavailable("gone", reason=Reason.WORKER_LOST)
    pool.ending = {1: error, 2: error}
    events = await draw(bench, batch(DOGS, DOGS, **THROUGHPUT))
    failures = [one.failure.reason for one in ended(events) if one.failure]
    assert failures == [Reason.WORKER_LOST] * 2


async def test_without_a_device_all_fail(bench: Bench, pool: SharingPool) -> None:
    pool.ending = {2: Unavailable("gone", reason=Reason.DEVICE_LOST)}
    with pytest.raises(SessionFailed) as error:
        await draw(bench, batch(CAT, DOGS, **THROUGHPUT))
    assert error.value.reason is Reason.DEVICE_LOST


async def test_a_pause_keeps_what_is_finished(bench: Bench, pool: SharingPool) -> None:
    pool.hold = asyncio.Event()
    call = asyncio.create_task(draw(bench, batch(DOGS, CAT, **THROUGHPUT)))
    await pool.holding.wait()
    (session,) = bench.sessions.all()
    bench.sessions.pause(session, "", "")
    async with asyncio.timeout(30):
        while session.state is not SessionState.PAUSED:
            await session.log.change().wait()
    pool.pausing, pool.hold = False, None
    bench.sessions.resume(session, "")
    events = await call

    first, second = pool.works
    assert [one.settings.prompt for one in second.jobs] == ["dogs"], "the cat has ended"
    assert second.finished == ()
    assert drawn(events) == [("1", 2, 1), ("0", 1, 9), ("0", 0, 8)]
    assert end(events).report == GenerationBatchReport(2, 0)
    assert first.image_count == 3


def test_a_shared_job_holds_pictures_against_its_generations() -> None:
    one = request(DOGS)
    assert MODEL.place is not None
    from domains.inference.jobs import GenerationJob

    settings = structs.replace(one.settings, width=256, height=256, seeds=(8, 9))
    job = SharedGenerationJob(
        (GenerationJob(settings, MODEL.place), GenerationJob(settings, MODEL.place)),
        finished=(1,),
    )
    image = ImageResult(2, 8, "a" * 64, ImageFileFormat.PNG, 256, 256, 10)
    assert job.image_count == 4
    assert job.firsts == (0, 2)
    assert [job.at(number) for number in range(4)] == [0, 0, 1, 1]
    assert job.accepts(image)
    assert not job.accepts(structs.replace(image, seed=9)), "of the next picture"
    assert not job.accepts(structs.replace(image, image_index=1, seed=9)), "it is out"
    done = GenerationReport(
        Timings(), PrecisionMode.EXACT, ModelOrigin.LOADED, (), computed=Computation()
    )
    assert job.due_from(0, done) == {0}
    assert job.due_from(1, done) == {2, 3}
    assert job.due_from(1, NO_NUMBER) == ()
    paused = SharedReport((PausedPart(0, PausedGeneration(Timings())),))
    assert (job.due_parts(SharedReport()), job.due_parts(paused)) == ({0, 1}, {1})
    assert (job.paused(SharedReport()), job.paused(paused)) == (False, True)
    with pytest.raises(IndexError):
        job.due_from(2, done)
