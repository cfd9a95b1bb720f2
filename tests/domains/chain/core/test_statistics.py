"""What steps came to is counted where they end, and outlives the server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domains.chain.core.statistics import StepStatistics
from domains.chain.errors import PostprocessorMissing
from domains.chain.types import CropStep, SharpenStep, UpscalerModel, UpscaleStep
from domains.clock import Clock
from domains.codec import Value
from domains.device.core import facts as kept
from domains.device.core.facts import TransientFacts
from domains.errors import Cancelled, InvalidArgument, Reason
from domains.postprocessing.convert import statistics_to_proto
from domains.postprocessing.core.benchmarks import KeptBenchmarks
from domains.postprocessing.types import PostprocessorBenchmark
from domains.session.core.durations import Durations
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished
from domains.values import ByteFigure, ModelPlace

MODEL = UpscalerModel("big", ModelPlace.of(Path("/models/big.safetensors")))
STEPS = (CropStep(0, 0, 1, 1), UpscaleStep(model=MODEL), SharpenStep())
BEGUN = PhaseStarted(Phase.POSTPROCESSING, 0)


class Ticking:
    """A second passes whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def learned(facts: TransientFacts) -> StepStatistics:
    return StepStatistics(facts, Clock(monotonic=Ticking()))


CPU = "cpu:0"


class StepAccount(Value, frozen=True):
    """An account as it was kept before devices were told apart."""

    postprocessor_id: str
    completed: int
    total: float
    newest: tuple[float, ...]
    failed: int = 0
    cancelled: int = 0


def step(done: int) -> PieceFinished:
    return PieceFinished(0, Piece.STEP, done, len(STEPS))


def test_each_step_is_timed_by_what_does_it():
    statistics = learned(TransientFacts())
    chain = statistics.follow(STEPS, CPU)
    chain.hear(PhaseStarted(Phase.LOADING_MODEL))
    chain.hear(BEGUN)
    chain.hear(step(1))
    chain.hear(PieceFinished(0, Piece.TILE, 1, 2))
    chain.hear(step(2))
    found = {one.postprocessor_id: one for one in statistics.describe("")}
    assert list(found) == ["big", "crop"]
    assert found["crop"].times == Durations(1, 1.0, (1.0,))
    assert found["big"].times.total == 2.0
    chain.fail(ValueError())
    [sharpen] = statistics.describe("sharpen")
    assert (sharpen.times.count, sharpen.failed, sharpen.cancelled) == (0, 1, 0)


def test_reading_a_network_is_part_of_its_step():
    statistics = learned(TransientFacts())
    chain = statistics.follow(STEPS, CPU)
    chain.hear(BEGUN)
    chain.hear(step(1))
    chain.hear(PhaseStarted(Phase.LOADING_MODEL))
    chain.hear(PhaseStarted(Phase.POSTPROCESSING, 0, 1))
    chain.hear(step(2))
    [big] = statistics.describe("big")
    assert big.times.total == 3.0


def test_a_chain_that_begins_anew_has_all_its_steps_before_it():
    statistics = learned(TransientFacts())
    chain = statistics.follow(STEPS, CPU)
    chain.hear(BEGUN)
    chain.hear(step(1))
    chain.hear(BEGUN)
    chain.hear(step(1))
    assert [one.postprocessor_id for one in statistics.describe("")] == ["crop"]
    [crop] = statistics.describe("crop")
    assert crop.times.count == 2


@pytest.mark.parametrize("error", [Cancelled("stop"), asyncio.CancelledError()])
def test_a_stop_is_no_failure(error):
    statistics = learned(TransientFacts())
    chain = statistics.follow(STEPS, CPU)
    chain.hear(BEGUN)
    chain.fail(error)
    [crop] = statistics.describe("crop")
    assert (crop.failed, crop.cancelled) == (0, 1)


def test_what_fails_before_the_first_step_is_no_steps():
    statistics = learned(TransientFacts())
    statistics.follow(STEPS, CPU).fail(ValueError())
    assert statistics.describe("") == ()
    chain = statistics.follow(STEPS[:1], CPU)
    chain.hear(BEGUN)
    chain.hear(step(1))
    # The file could not be written.
    chain.fail(ValueError())
    [crop] = statistics.describe("")
    assert (crop.times.count, crop.failed) == (1, 0)


def test_the_pictures_of_a_chain_are_told_apart():
    statistics = learned(TransientFacts())
    chain = statistics.follow(STEPS, CPU)
    for index in (0, 1):
        chain.hear(PhaseStarted(Phase.POSTPROCESSING, index))
    chain.hear(PieceFinished(1, Piece.STEP, 1, len(STEPS)))
    chain.hear(PieceFinished(2, Piece.STEP, 1, len(STEPS)))  # nobody began that
    # One that was withheld after its first step fails in none of the others.
    chain.finish(1)
    chain.fail(InvalidArgument("x", reason=Reason.FIELD_OUT_OF_RANGE).failure())
    chain.fail(ValueError())
    [crop] = statistics.describe("")
    assert (crop.times.count, crop.failed) == (1, 1)


def test_one_that_was_not_used_is_unknown():
    with pytest.raises(PostprocessorMissing):
        learned(TransientFacts()).describe("crop")


async def test_they_outlive_the_server():
    facts = TransientFacts()
    statistics = learned(facts)
    await statistics.save()
    assert facts.get("postprocessing.statistics") is None
    statistics.completed("crop", 2.0)
    await statistics.save()
    again = learned(facts)
    again.completed("crop", 4.0)
    [crop] = again.describe("crop")
    assert crop.times == Durations(2, 6.0, (2.0, 4.0))
    facts.put("postprocessing.statistics", b"torn")
    assert learned(facts).describe("") == ()


def test_devices_are_told_apart_and_summed():
    """Each with a window of its own, of which the sum has some of each."""
    moments = iter(datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 9))
    statistics = StepStatistics(TransientFacts(), Clock(wall=lambda: next(moments)))
    for seconds in range(1, 201):
        statistics.completed("crop", seconds, CPU)
    statistics.completed("crop", 0.5, "cuda:0")
    statistics.stopped("crop", "cuda:0", cancelled=False)
    statistics.stopped("pad", "cuda:0", cancelled=True)
    pad, crop = statistics.describe("")
    assert (pad.cancelled, pad.failed, pad.times) == (1, 0, Durations())
    assert crop.since == datetime(2026, 1, 1, tzinfo=UTC)
    assert [one.device_id for one in crop.by_device] == ["cuda:0", CPU]
    assert (crop.times.count, crop.failed) == (201, 1)
    assert crop.times.total == sum(range(1, 201)) + 0.5
    assert set(crop.times.newest) == {0.5, *range(74, 201)}
    [card] = statistics.describe("crop", "cuda:0")
    assert card.times == Durations(1, 0.5, (0.5,))
    assert [one.postprocessor_id for one in statistics.describe("", CPU)] == ["crop"]
    with pytest.raises(PostprocessorMissing, match="on cpu:0"):
        statistics.describe("pad", CPU)


def test_what_an_earlier_version_counted_is_summed_and_of_no_device():
    facts = TransientFacts()
    kept.note(facts, "postprocessing.statistics", (StepAccount("crop", 3, 6.0, (2.0,) * 3),))
    statistics = learned(facts)
    statistics.completed("crop", 4.0, CPU)
    [crop] = statistics.describe("crop")
    assert (crop.times.count, crop.times.total, crop.since) == (4, 10.0, None)
    [told] = statistics_to_proto([crop]).postprocessors
    assert (told.completed.count, told.HasField("since_time")) == (4, False)
    assert [(one.device_id, one.completed.count) for one in told.by_device] == [(CPU, 1)]
    assert told.by_device[0].since_time.seconds > 0


def test_no_more_is_kept_than_there_is_room_for():
    statistics = learned(TransientFacts())
    for number in range(140):
        statistics.completed(f"p-{number}", 1.0)
    for _ in range(200):
        statistics.completed("p-139", 1.0)
    assert len(statistics.describe("")) == 128
    [most] = statistics.describe("p-139")
    assert (most.times.count, len(most.times.newest)) == (201, 128)


def benchmark(name: str, device: str, seconds: float) -> PostprocessorBenchmark:
    return PostprocessorBenchmark(
        name, device, 1000, 1000, (seconds,), ByteFigure.measured(1, "x")
    )


async def test_the_newest_figures_of_each_device_are_kept():
    facts = TransientFacts()
    results = KeptBenchmarks(facts)
    assert results.of("a") == ()
    await results.keep(benchmark("a", "cpu:0", 2.0))
    await results.keep(benchmark("a", "cuda:0", 1.0))
    await results.keep(benchmark("b", "cpu:0", 1.0))
    await results.keep(benchmark("a", "cpu:0", 0.5))
    found = KeptBenchmarks(facts).of("a")
    assert [(one.device_id, one.run) for one in found] == [
        ("cpu:0", (0.5,)),
        ("cuda:0", (1.0,)),
    ]
    assert found[0].megapixels_per_second == 2.0
    for number in range(12):
        await results.keep(benchmark("a", f"card:{number}", 1.0))
    assert [one.device_id for one in results.of("a")][:2] == ["card:11", "card:10"]
    assert len(results.of("a")) == 8
