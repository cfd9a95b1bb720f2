"""The history: bounds, thinning, percentiles, and what a restart keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.device.types import DeviceFigures, LoadedComponent
from domains.memory.core.analytics import percentile, summarise
from domains.memory.core.history import fragmentation_of
from domains.memory.core.intervals import KEPT, Intervals, Reading
from domains.memory.types import MemoryInterval, Place
from domains.values import ByteFigure

START = 1_900_000_800  # a full hour


def filled(seconds: int, *, step: int = 1, used: int = 100) -> Intervals:
    intervals = Intervals()
    for age in range(0, seconds, step):
        intervals.add(START + age, Reading("host", used, None, {"a": used}))
    return intervals


def test_every_resolution_is_bounded() -> None:
    intervals = filled(200_000, step=37)
    for resolution, age in KEPT.items():
        kept = intervals._rings["host", resolution]
        assert 0 < len(kept) <= age // resolution + 1
        assert min(kept) > START + 200_000 - 37 - age - resolution


def test_a_peak_of_a_second_is_seen_weeks_later() -> None:
    intervals = filled(3_600)
    intervals.add(START + 1_800, Reading("host", 10**12))
    for week in range(1, 4):
        intervals.add(START + week * 604_800, Reading("host", 100))
    now = START + 3 * 604_800 + 1
    stretches = intervals.select("host", now - 2_592_000, now)
    assert max(one.interval.peak_bytes for one in stretches) == 10**12


@given(
    ages=st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=60),
    window=st.integers(1, 5 * 86_400),
)
def test_no_moment_is_counted_twice(ages: list[int], window: int) -> None:
    intervals = Intervals()
    for age in sorted(ages, reverse=True):
        intervals.add(START - age, Reading("host", 5))
        intervals.count(START - age, "host", evictions=1)
    now = START - min(ages) + 1
    stretches = intervals.select("host", now - window, now)
    moments = sorted((one.interval.start, one.interval.resolution) for one in stretches)
    assert [(one.interval.start, one.interval.resolution) for one in stretches] == moments
    assert all(one.seconds > 0 or one.interval.evictions for one in stretches)
    assert sum(one.seconds for one in stretches) <= window + 1e-6
    whole = intervals.select("host", START - 5 * 86_400, now)
    assert sum(one.interval.samples for one in whole) == len(ages)
    assert sum(one.interval.evictions for one in whole) == len(ages)


@given(st.lists(st.integers(0, 1 << 50), min_size=1, max_size=50))
def test_an_interval_is_the_peak_and_the_mean_of_its_readings(used: list[int]) -> None:
    intervals = Intervals()
    for value in used:
        intervals.add(START, Reading("host", value, None, {"a": value}))
    found = intervals._rings["host", 60][START]
    assert found.peak_bytes == max(used)
    assert found.samples == len(used)
    # The running mean is rounded at every reading.
    assert abs(found.mean_bytes - sum(used) / len(used)) <= len(used)
    assert found.owners["a"].peak_bytes == max(used)


def test_an_owner_that_comes_and_goes_counts_for_its_time() -> None:
    intervals = Intervals()
    intervals.add(START, Reading("cuda:0", 10, None, {"a": 8}))
    intervals.add(START + 1, Reading("cuda:0", 10, None, {"b": 4}))
    owners = intervals._rings["cuda:0", 60][START].owners
    assert (owners["a"].mean_bytes, owners["a"].peak_bytes) == (4, 8)
    assert (owners["b"].mean_bytes, owners["b"].peak_bytes) == (2, 4)


def test_a_clock_that_was_ahead_leaves_nothing_behind() -> None:
    intervals = Intervals()
    intervals.add(START + 86_400, Reading("host", 10**9))
    intervals.add(START, Reading("host", 1, None))
    assert all(start <= START for (_, _), ring in intervals._rings.items() for start in ring)


@given(
    values=st.lists(
        st.tuples(st.integers(0, 1000), st.floats(0.1, 100)), min_size=1, max_size=40
    ),
    share=st.floats(0, 1),
)
def test_a_percentile_has_its_share_below_it(
    values: list[tuple[int, float]], share: float
) -> None:
    found = percentile(values, share)
    total = sum(weight for _, weight in values)
    assert found in {value for value, _ in values}
    assert sum(w for v, w in values if v <= found) >= share * total * (1 - 1e-9)
    assert sum(w for v, w in values if v < found) <= share * total * (1 + 1e-9)


def test_percentiles_are_over_time_and_not_over_intervals() -> None:
    long = MemoryInterval("host", 3_600, START, 900, 800, 3_600)
    short = [MemoryInterval("host", 1, START + 3_600 + n, 10, 10, 1) for n in range(60)]
    intervals = Intervals([long, *short])
    now = START + 3_660.0
    history = summarise(
        Place(),
        intervals.select("host", now - 3_660, now),
        since=now - 3_660,
        until=now,
        points=10,
    )
    assert (history.p50_bytes, history.p95_bytes, history.peak_bytes) == (800, 900, 900)


def test_a_series_has_the_peak_of_each_part() -> None:
    intervals = Intervals()
    for second in range(10):
        intervals.add(START + second, Reading("host", second, second / 10))
    history = summarise(
        Place(),
        intervals.select("host", START, START + 10),
        since=START,
        until=START + 10,
        points=5,
    )
    assert [sample.used_bytes for sample in history.samples] == [1, 3, 5, 7, 9]
    assert [sample.fragmentation for sample in history.samples] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert history.samples[0].sample_time == datetime.fromtimestamp(START, UTC)
    assert history.fragmentation_p95 == pytest.approx(0.9)


def test_a_sample_is_never_before_the_history_began() -> None:
    intervals = Intervals()
    intervals.add(START, Reading("host", 1, None))
    read = intervals.select("host", START - 100, START + 1)
    history = summarise(Place(), read, since=START - 100, until=START + 1, points=3)
    assert [sample.sample_time.timestamp() for sample in history.samples] == [START]


def test_nothing_is_told_of_nothing() -> None:
    history = summarise(Place(), [], since=0, until=10, points=3)
    assert (history.samples, history.peak_bytes, history.p95_bytes) == ((), 0, 0)
    assert history.owners == ()
    assert history.fragmentation_p95 is None


def figures(**told: int) -> DeviceFigures:
    names = ("total", "free", "allocated", "reserved", "peak_allocated")
    names += ("largest_free", "inactive_split")
    found = {
        name: ByteFigure.measured(told[name], "test")
        if name in told
        else ByteFigure.unknown("test")
        for name in names
    }
    models: tuple[LoadedComponent, ...] = ()
    return DeviceFigures(**found, leased_bytes=0, models=models, read_time=datetime.now(UTC))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"free": 100, "largest_free": 25}, 0.75),
        ({"free": 100, "largest_free": 100}, 0.0),
        ({"free": 50, "reserved": 100, "allocated": 50, "inactive_split": 20}, 0.2),
        ({"free": 50, "inactive_split": 20}, None),
        ({"largest_free": 20}, None),
        ({"free": 0, "reserved": 5, "allocated": 5, "inactive_split": 0}, None),
    ],
)
def test_fragmentation_is_the_share_outside_the_largest_block(
    told: Mapping[str, int], expected: float | None
) -> None:
    assert fragmentation_of(figures(**told)) == expected


def test_what_is_kept_is_taken_up_again() -> None:
    before = filled(120)
    kept: Sequence[MemoryInterval] = [
        one for ring in before._rings.values() for one in ring.values()
    ]
    after = Intervals(kept)
    window = (START - 10, START + 120)
    assert after.select("host", *window) == before.select("host", *window)
