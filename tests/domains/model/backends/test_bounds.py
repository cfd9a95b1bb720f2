"""What configurations may say, bound by bound."""

from __future__ import annotations

import pytest

from domains.model.backends.bounds import (
    ConfigBounds,
    Flag,
    Line,
    Many,
    Number,
    OrNull,
    Unused,
    Whole,
    words,
)


@pytest.mark.parametrize(
    ("bound", "good", "bad"),
    [
        (Whole(1, 8), [1, 8], [0, 9, 1.0, True, "1", [1], None, {}]),
        (Number(0, 1), [0.5, 1e-9], [0, 1, True, "0.5", [0.5], None]),
        (Number(0, 1, closed=True), [0, 0.5, 1], [-1e-9, 1.1, "1", float("nan")]),
        (Flag(), [True, False, None], [0, 1, "true", [True]]),
        (Line(3), ["", "abc"], ["abcd", 1, None, ["a"]]),
        (words("a", "b"), ["a"], ["c", ["a"], [["a"]], 1, None, {"a": 1}]),
        (OrNull(Whole(1, 8)), [None, 1], [0, "1"]),
        (Unused(), [None, False, [], {}, ""], [True, [1], {"a": 1}, "a", 1]),
        (Many(Whole(1, 8), most=2), [[1], [1, 8]], [1, [], [1, 2, 3], [9], [True], None]),
        (Many(Whole(1, 8), or_one=True), [1, [1]], [0, [0], [[1]], "1", None]),
        (Many(Many(Whole(1, 8), or_one=True)), [[1], [[1, 2], 3]], [[[[1]]], [[]], 1]),
    ],
)
def test_values_within_and_outside(bound, good, bad):
    assert [value for value in good if bound.problem(value)] == []
    assert [value for value in bad if not bound.problem(value)] == []


def test_what_is_wrong_is_told_one_thing_at_a_time():
    bounds = ConfigBounds(
        {"size": Whole(1, 8), "kind": OrNull(words("a"))},
        required=("size",),
        rules=(lambda config: "is odd" if config["size"] % 2 else "",),
    )
    assert bounds.problem({"size": 2, "kind": None, "other": object()}) == ""
    assert bounds.problem({"size": None}) == "has no size"
    outside = "has a value of size that is outside 1 to 8"
    assert bounds.problem({"size": 9, "kind": "b"}) == outside
    assert bounds.problem({"size": 1, "kind": "b"}) == "has a value of kind that is unknown"
    assert bounds.problem({"size": 1}) == "is odd"
