"""`docs/robustness.md` tells the truth about which tests prove which promise."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "robustness.md"
STATES = ("held", "in part", "open")
PROMISES = tuple(f"P{number:02}" for number in range(1, 39))


class Promise(NamedTuple):
    """A section of the page."""

    number: str
    state: str
    text: str
    tests: tuple[str, ...]


def read(page: str) -> list[Promise]:
    """Every promise, in the page's order."""
    sections = re.split(r"^#{2,3} ", page, flags=re.MULTILINE)[1:]
    promises = []
    for section in sections:
        heading, _, body = section.partition("\n")
        parts = heading.split(" · ")
        if re.fullmatch(r"P\d\d", parts[0]):
            _, _, state = parts
            tests = re.findall(r"^- `(.+)`$", body, flags=re.MULTILINE)
            text = body.partition("\n- ")[0].strip()
            promises.append(Promise(parts[0], state, text, tuple(tests)))
    return promises


@cache
def functions_of(path: Path) -> frozenset[str]:
    """The names of a file's test functions."""
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


def missing(promise: Promise) -> list[str]:
    """The tests that a promise names and that do not exist."""
    absent = []
    for test in promise.tests:
        file, _, function = test.partition("::")
        path = ROOT / file
        if not path.is_file() or function not in functions_of(path):
            absent.append(test)
    return absent


def test_every_promise_is_there_once() -> None:
    numbers = [promise.number for promise in read(PAGE.read_text("utf-8"))]
    assert sorted(numbers) == list(PROMISES)


@pytest.mark.parametrize("promise", read(PAGE.read_text("utf-8")), ids=lambda one: one.number)
def test_a_promise_has_a_state_a_text_and_tests_that_exist(promise: Promise) -> None:
    assert promise.state in STATES
    assert promise.text
    assert missing(promise) == []
    assert len(set(promise.tests)) == len(promise.tests)
    assert (promise.tests == ()) == (promise.state == "open")


def test_a_test_that_is_gone_is_noticed() -> None:
    there = "tests/test_robustness.py::test_a_test_that_is_gone_is_noticed"
    gone = ("tests/test_robustness.py::test_gone", "tests/test_gone.py::test_anything")
    assert missing(Promise("P01", "held", "", (there, *gone))) == list(gone)
