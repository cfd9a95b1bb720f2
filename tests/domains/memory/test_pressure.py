"""Levels and their hysteresis, as properties of the pure function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.memory.core.pressure import next_level, thresholds
from domains.memory.types import PressureLevel

NORMAL, ELEVATED, HIGH, CRITICAL = PressureLevel
TABLE = thresholds(0.80, 0.90, 0.95, 0.05)
shares = st.floats(0, 1)
levels = st.sampled_from(PressureLevel)


def test_the_table_states_every_level_in_order() -> None:
    assert [(t.level, t.enter, t.leave) for t in TABLE] == [
        (NORMAL, 0.0, 0.0),
        (ELEVATED, 0.80, 0.75),
        (HIGH, 0.90, 0.85),
        (CRITICAL, 0.95, 0.90),
    ]
    assert [len(threshold.reactions) for threshold in TABLE] == [0, 2, 3, 4]


@pytest.mark.parametrize(
    ("level", "share", "expected"),
    [
        (NORMAL, 0.799, NORMAL),
        (NORMAL, 0.80, ELEVATED),
        (NORMAL, 0.96, CRITICAL),
        (ELEVATED, 0.76, ELEVATED),
        (ELEVATED, 0.749, NORMAL),
        (HIGH, 0.86, HIGH),
        (HIGH, 0.849, ELEVATED),
        (CRITICAL, 0.90, CRITICAL),
        (CRITICAL, 0.899, HIGH),
        (CRITICAL, 0.10, NORMAL),
    ],
)
def test_levels_rise_at_once_and_fall_late(
    level: PressureLevel, share: float, expected: PressureLevel
) -> None:
    assert next_level(level, share, TABLE) is expected


@given(levels, shares)
def test_the_same_share_again_changes_nothing(level: PressureLevel, share: float) -> None:
    once = next_level(level, share, TABLE)

    assert next_level(once, share, TABLE) is once


@given(levels, shares, shares)
def test_more_used_is_never_a_lower_level(
    level: PressureLevel, one: float, other: float
) -> None:
    less, more = sorted((one, other))

    assert next_level(level, less, TABLE).value <= next_level(level, more, TABLE).value


@given(levels, shares)
def test_the_level_lies_between_what_the_two_shares_say(
    level: PressureLevel, share: float
) -> None:
    """Never below a level whose beginning is reached, never at one whose end is undercut."""
    after = next_level(level, share, TABLE)
    by_level = {threshold.level: threshold for threshold in TABLE}

    assert all(t.level.value <= after.value for t in TABLE if share >= t.enter)
    assert share >= by_level[after].leave


@given(st.floats(0.751, 0.799), st.lists(st.floats(0.751, 0.799), max_size=20))
def test_trembling_around_a_threshold_changes_nothing(
    first: float, trembling: list[float]
) -> None:
    for start in (NORMAL, ELEVATED):
        level = start
        for share in (first, *trembling):
            level = next_level(level, share, TABLE)
        assert level is start
