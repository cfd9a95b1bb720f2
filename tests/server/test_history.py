"""The history in tables: bounds, thinning, percentiles, and what a restart keeps."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.memory.types import History, MemoryHolder, Place, Reading
from server.history import HistoryTables
from server.journal_rows import Row
from server.journal_schema import migrate

START = 1_900_000_800  # a full hour
HOST, CARD = Place(), Place("cuda:0")
DAY = 86_400
# How many seconds back intervals of each resolution may lie, at most a minute later.
BOUNDS = {1: 600 + 60, 60: DAY + 3_600, 3_600: 30 * DAY + 3_600}


def empty() -> HistoryTables:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    return HistoryTables(connection)


def add(
    tables: HistoryTables, moment: float, used: int, holders: Mapping[str, int] | None = None
) -> None:
    tables.add(moment, [Reading(HOST, used, None, holders or {})])


def rows_of(tables: HistoryTables) -> tuple[list[Row], list[Row]]:
    """Everything that the two tables hold."""
    connection = tables._connection
    intervals = connection.execute("SELECT * FROM memory_intervals").fetchall()
    return intervals, connection.execute("SELECT * FROM memory_owners").fetchall()


def filled(seconds: int, *, step: int = 1, used: int = 100) -> HistoryTables:
    tables = empty()
    for age in range(0, seconds, step):
        add(tables, START + age, used, {"a": used})
    return tables


def put(tables: HistoryTables, resolution: int, start: int, samples: int, used: int) -> None:
    """An interval of `samples` readings that were all alike."""
    row = ("host", resolution, start, samples, used, used * samples, None, 0, 0)
    tables.put([row], [])


def history(tables: HistoryTables, since: float, until: float, points: int = 10) -> History:
    (found,) = tables.histories(since, until, points)
    return found


def test_those_who_held_most_are_told_and_no_more_than_an_answer_has() -> None:
    tables = empty()
    add(tables, START, 1000, {f"model-{k}": k for k in range(100)} | {"others": 1000})
    found = history(tables, START, START + 1).holders
    assert [one.peak_bytes for one in found] == [1000, *range(99, 36, -1)]
    assert found[0].holder is MemoryHolder.OTHERS


def test_every_resolution_is_bounded() -> None:
    intervals, owners = rows_of(filled(200_000, step=37))
    now = START + 200_000
    for resolution, age in BOUNDS.items():
        kept = [row[2] for row in intervals if row[1] == resolution]
        assert 0 < len(kept) <= age // resolution
        assert min(kept) > now - age - 60
    assert [row[:3] for row in owners] == [row[:3] for row in intervals]


def test_intervals_of_two_resolutions_do_not_overlap() -> None:
    tables = empty()
    for second in range(17, 1_300):  # thinned at no full minute
        add(tables, START + second, 1)
    rows = sorted((start, resolution) for _, resolution, start, *_ in rows_of(tables)[0])
    assert {resolution for _, resolution in rows} == {1, 60}
    ends = [start + resolution for start, resolution in rows]
    assert ends[:-1] == [start for start, _ in rows[1:]]


def test_a_month_is_kept_and_no_more() -> None:
    tables = empty()
    for day in range(40):
        add(tables, START + day * DAY, day)
    now = START + 39 * DAY + 1
    found = history(tables, START, now, 1000)
    assert [sample.used_bytes for sample in found.samples] == list(range(9, 40))


def test_a_peak_of_a_second_is_seen_weeks_later() -> None:
    tables = filled(3_600)
    add(tables, START + 1_800, 10**12)
    for week in range(1, 4):
        add(tables, START + week * 604_800, 100)
    now = START + 3 * 604_800 + 1
    assert history(tables, now - 2_592_000, now).peak_bytes == 10**12


@given(
    ages=st.lists(st.integers(0, 3 * DAY), min_size=1, max_size=60),
    window=st.integers(1, 5 * DAY),
)
def test_no_moment_is_counted_twice(ages: list[int], window: int) -> None:
    tables = empty()
    for age in sorted(ages, reverse=True):
        tables.add(START - age, [Reading(HOST, 5, evictions=1)])
    now = START - min(ages) + 1
    rows = sorted((start, resolution) for _, resolution, start, *_ in rows_of(tables)[0])
    ends = [start + resolution for start, resolution in rows]
    assert all(end <= start for end, (start, _) in zip(ends, rows[1:], strict=False))
    assert sum(row[3] for row in rows_of(tables)[0]) == len(ages)
    assert history(tables, START - 5 * DAY, now).eviction_count == len(ages)
    assert history(tables, now - window, now).eviction_count <= len(ages)


@given(st.lists(st.integers(0, 1 << 50), min_size=1, max_size=50))
def test_an_interval_is_the_peak_and_the_mean_of_its_readings(used: list[int]) -> None:
    tables = empty()
    for value in used:
        add(tables, START, value, {"a": value})
    found = history(tables, START, START + 1)
    assert found.peak_bytes == max(used)
    assert found.p50_bytes == sum(used) // len(used)
    assert found.holders[0].peak_bytes == max(used)
    assert found.holders[0].mean_bytes == pytest.approx(sum(used) / len(used), abs=1)


@pytest.mark.parametrize("later", [1, 700, 2 * DAY])
def test_a_holder_that_comes_and_goes_counts_for_its_time(later: int) -> None:
    tables = empty()
    add(tables, START, 10, {"a": 8})
    add(tables, START + 1, 10, {"b": 4})
    tables.add(START + 1 + later, [])
    found = history(tables, START, START + 3_600)
    holders = {one.holder: (one.mean_bytes, one.peak_bytes) for one in found.holders}
    assert holders == {"a": (4, 8), "b": (2, 4)}
    assert [one.holder for one in found.holders] == ["a", "b"]


def test_a_clock_that_was_ahead_leaves_nothing_behind() -> None:
    tables = empty()
    add(tables, START + DAY, 10**9)
    add(tables, START, 1)
    assert [row[2] for row in rows_of(tables)[0]] == [START]


@given(
    values=st.lists(
        st.tuples(st.integers(0, 1000), st.integers(1, 3_600)), min_size=1, max_size=40
    ),
)
def test_a_percentile_has_its_share_of_the_time_below_it(values: list[tuple[int, int]]) -> None:
    tables = empty()
    for number, (used, seconds) in enumerate(values):
        put(tables, 3_600, START + number * 3_600, seconds, used)
    found = history(tables, START, START + len(values) * 3_600)
    total = sum(seconds for _, seconds in values)
    for share, value in ((0.5, found.p50_bytes), (0.95, found.p95_bytes)):
        assert value in {used for used, _ in values}
        assert sum(s for used, s in values if used <= value) >= share * total * (1 - 1e-9)
        assert sum(s for used, s in values if used < value) <= share * total * (1 + 1e-9)


def test_percentiles_are_over_time_and_not_over_intervals() -> None:
    tables = empty()
    tables.put([("host", 3_600, START, 3_600, 900, 800 * 3_600, None, 0, 0)], [])
    for number in range(60):
        put(tables, 1, START + 3_600 + number, 1, 10)
    found = history(tables, START, START + 3_660)
    assert (found.p50_bytes, found.p95_bytes, found.peak_bytes) == (800, 900, 900)


def test_a_window_counts_the_part_of_an_interval_that_lies_in_it() -> None:
    tables = empty()
    put(tables, 60, START, 60, 1000)
    put(tables, 60, START + 60, 60, 10)
    assert history(tables, START + 59, START + 120).p95_bytes == 10
    assert history(tables, START, START + 120).p95_bytes == 1000


def test_a_series_has_the_peak_of_each_part() -> None:
    tables = empty()
    for second in range(10):
        tables.add(START + second, [Reading(HOST, second, second / 10)])
    found = history(tables, START, START + 10, 5)
    assert [sample.used_bytes for sample in found.samples] == [1, 3, 5, 7, 9]
    assert [sample.fragmentation for sample in found.samples] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert found.samples[0].sample_time == datetime.fromtimestamp(START, UTC)
    assert found.fragmentation_p95 == pytest.approx(0.9)


def test_unknown_fragmentation_hides_none_that_is_known() -> None:
    tables = empty()
    for second, fragmentation in enumerate((None, 0.5, None)):
        for _ in range(2):
            tables.add(START + second, [Reading(HOST, 1, fragmentation)])
            tables.add(START + second, [Reading(HOST, 1)])
    tables.add(START + 1_000, [Reading(HOST, 1, 0.25)])  # the first three are a minute now
    found = history(tables, START, START + 1_001, 1000)
    assert [sample.fragmentation for sample in found.samples] == [0.5, 0.25]


def test_a_sample_is_never_before_the_history_began() -> None:
    tables = empty()
    add(tables, START, 1)
    found = history(tables, START - 100, START + 1, 3)
    assert [sample.sample_time.timestamp() for sample in found.samples] == [START]


def test_what_happens_between_readings_is_counted_and_is_no_sample() -> None:
    tables = empty()
    tables.add(START, [Reading(CARD, evictions=1), Reading(HOST, out_of_memory=1)])
    tables.add(START, [Reading(CARD, evictions=2)])
    host, card = tables.histories(START, START + 1, 5)
    assert (host.place, card.place) == (HOST, CARD)
    assert (host.out_of_memory_count, card.eviction_count) == (1, 3)
    assert host.samples == card.samples == ()
    assert (card.peak_bytes, card.p50_bytes, card.fragmentation_p95) == (0, 0, None)


def test_a_place_without_anything_in_the_window_is_there_and_empty() -> None:
    tables = empty()
    assert tables.histories(0, 10, 3) == ()
    add(tables, START, 5)
    assert tables.histories(START + 10, START + 20, 3) == (History(HOST),)


def test_what_is_kept_is_taken_up_again() -> None:
    before, after = filled(1_200), empty()
    after.put(*rows_of(before))
    window = (START - 10, START + 1_200, 50)
    assert after.histories(*window) == before.histories(*window)
