"""What configurations may say, bound by bound."""

from __future__ import annotations

import pytest

from domains.model.backends.bounds import ConfigBounds, Number, Whole, words


@pytest.mark.parametrize(
    ("bound", "good", "bad"),
    [
        (Whole(1, 8), [1, 8], [0, 9, 1.0, True, "1", [1]]),
        (Whole(1, 8, listed=True), [1, [1, [2, 8]], []], [0, [1, 9], [[True]], [1.5], [None]]),
        (Number(0, 1), [0.5, 1e-9], [0, 1, True, "0.5", [0.5]]),
        (Number(0, 1, listed=True), [[0.5], [0.1, 0.9]], [0.5, [], [0.5, 1], [True], ["x"]]),
        (words("a", "b"), ["a", ["a", ["b"]]], ["c", ["a", "c"], 1, [None]]),
    ],
)
def test_values_within_and_outside(bound, good, bad):
    assert [value for value in good if bound.problem(value)] == []
    assert [value for value in bad if not bound.problem(value)] == []


def test_what_is_wrong_is_told_one_thing_at_a_time():
    bounds = ConfigBounds(
        {"size": Whole(1, 8), "kind": words("a")},
        required=("size",),
        rules=(lambda config: "is odd" if config["size"] % 2 else "",),
    )
    assert bounds.problem({"size": 2, "kind": None, "other": object()}) == ""
    assert bounds.problem({"size": None}) == "has no size"
    assert bounds.problem({"size": 9, "kind": "b"}) == "has a size that is outside 1 to 8"
    assert bounds.problem({"size": 1, "kind": "b"}) == "has a kind that is unknown"
    assert bounds.problem({"size": 1}) == "is odd"
