"""The tests that pages name exist, and the pages name as many as they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_robustness import ROOT, functions_of

RECOVERY, SCENARIOS = ROOT / "docs" / "recovery.md", ROOT / "tests" / "e2e" / "README.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
_CLASSES = ("discovery to inference", "load to postprocessing", "batch", "pressure")
CLASSES = (*_CLASSES, "recovery", "concurrency")
KINDS = {"E": 42, "S": 36, "F": 48}
"""How many scenarios of each kind there are, by the letter before their numbers."""


def rows(page: Path) -> list[list[str]]:
    """The cells of every row of the page's tables, without headings."""
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [[each.strip() for each in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if _TEST.search(row[-1])]


def gone(text: str) -> list[str]:
    """The tests that a text names and that do not exist."""
    named = _TEST.findall(text)
    return [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file() or name not in functions_of(ROOT / file)
    ]


@pytest.mark.parametrize("page", [RECOVERY, SCENARIOS], ids=lambda page: page.name)
def test_every_named_test_exists(page: Path) -> None:
    assert _TEST.search(page.read_text("utf-8"))
    assert gone(page.read_text("utf-8")) == []


def test_every_row_of_the_table_of_recovery_names_a_test() -> None:
    lines = RECOVERY.read_text("utf-8").splitlines()
    assert len(rows(RECOVERY)) == sum(line.startswith("| **") for line in lines) > 0


def test_there_are_as_many_scenarios_as_the_page_says_each_with_a_test() -> None:
    found = rows(SCENARIOS)
    for letter, count in KINDS.items():
        numbers = [row[0] for row in found if row[0].startswith(letter)]
        assert numbers == [f"{letter}{number:02}" for number in range(1, count + 1)]
        assert {row[1] for row in found if row[0].startswith(letter)} == set(CLASSES)
    whats = [row[2] for row in found]
    assert len(set(whats)) == len(whats) == sum(KINDS.values())


def test_no_two_scenarios_of_a_kind_are_one_test() -> None:
    for letter in KINDS:
        named = [row[-1] for row in rows(SCENARIOS) if row[0].startswith(letter)]
        assert len(set(named)) == len(named)


def test_a_test_that_is_gone_is_noticed() -> None:
    here = "`tests/test_named_tests.py::test_a_test_that_is_gone_is_noticed`"
    assert gone(f"{here} `tests/test_named_tests.py::test_none` `tests/none.py::test_a`") == [
        "tests/test_named_tests.py::test_none",
        "tests/none.py::test_a",
    ]
