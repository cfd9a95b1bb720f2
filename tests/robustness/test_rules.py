"""Each rule finds what it is for, and is content with a history in which all is well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.robustness.history import (
    Acknowledged,
    Cancelled,
    Downloaded,
    Entry,
    Expired,
    Killed,
    Listed,
    Opened,
    Record,
    Stood,
    Submitted,
    load,
    save,
)
from tests.robustness.rules import RULES, Rule, broken

A, B, R = "session-a", "session-b", "request"


def entries(stream: int, *kinds: str, start: int = 1, session: str = A) -> list[Record]:
    """So many entries in order; pictures are the first and called P."""
    return [
        Entry(
            10.0 + number,
            stream,
            session,
            number,
            kind,
            image="/0" if kind in ("image_finished", "image_decoded") else "",
            artifact_id="P" if kind == "image_finished" else "",
        )
        for number, kind in enumerate(kinds, start)
    ]


def accepted(session: str, request: str, at: float, **fields: object) -> list[Record]:
    priority = int(str(fields.get("priority", 2)))
    return [
        Submitted(at, "anna", request, priority),
        Acknowledged(at + 0.1, "anna", request, session, (7,)),
    ]


GOOD: list[Record] = [
    *accepted(A, R, 1),
    Opened(1, 1, A, 1),
    *entries(1, "accepted", "phase_started", "step_finished"),
    Killed(14, "front"),
    Opened(15, 2, A, 4),
    Expired(15, 2, 4, 1_000_000_003),
    Opened(16, 3, A, 1),
    *entries(3, "accepted", "phase_started"),
    *entries(3, "retried", "image_decoded", "image_finished", start=1_000_000_003),
    *entries(3, "completed", start=1_000_000_006),
    Opened(17, 4, A, 1_000_000_005),
    *entries(4, "image_finished", "completed", start=1_000_000_005),
    Acknowledged(18, "anna", R, A, (7,)),
    Stood(20, A, "COMPLETED", (("/0", "P"),), begun=2.0, retries=1),
    Listed(20, "anna", (A,)),
    Downloaded(21, "P", "P"),
]
DONE = Stood(30, B, "COMPLETED", begun=5.0)


def without(kind: type[Record]) -> list[Record]:
    return [each for each in GOOD if not isinstance(each, kind)]


BAD: dict[str, tuple[list[Record], str]] = {
    "nothing_is_lost": ([*GOOD, Listed(22, "anna", ())], "is gone"),
    "everything_ends": ([*GOOD, *accepted(B, "other", 3), Stood(22, B, "QUEUED")], "QUEUED"),
    "everything_ends, nobody asked": (without(Stood), "never seen"),
    "a_request_is_one_session": ([*GOOD, Acknowledged(22, "anna", R, B, (7,))], f"{A} and {B}"),
    "a_request_is_one_session, seeds": (
        [*GOOD, Acknowledged(22, "anna", R, A, (8,))],
        "seeds",
    ),
    "a_request_is_one_session, two requests": (
        [*GOOD, Acknowledged(22, "anna", "other", A, (7,))],
        "is of",
    ),
    "numbers_have_order_and_no_gap": (
        [*GOOD, Opened(22, 5, A, 3), *entries(5, "step_finished", "completed", start=4)],
        "4 and 3 was next",
    ),
    "numbers_have_order_and_no_gap, twice": (
        [*GOOD, Opened(22, 5, A, 1), *entries(5, "accepted"), *entries(5, "accepted")],
        "1 after 1",
    ),
    "numbers_have_order_and_no_gap, within": (
        [*GOOD, Opened(22, 5, B, 3), *entries(5, "a", start=3), *entries(5, "b", start=5)],
        "5 and 4 was next",
    ),
    "numbers_have_order_and_no_gap, what lasts": (
        [*GOOD, Opened(22, 5, A, 1), *entries(5, "accepted", "completed", start=8)],
        "leaves out 2 (phase_started)",
    ),
    "numbers_have_order_and_no_gap, refused": ([*GOOD, Expired(22, 9, 5, 3)], "kept from 3"),
    "a_number_is_one_event": (
        [*GOOD, Opened(22, 5, A, 2), *entries(5, "image_decoded", start=2)],
        "has at 2",
    ),
    "an_end_is_the_end": ([*GOOD, Stood(22, A, "RUNNING")], "was COMPLETED and is RUNNING"),
    "an_end_is_the_end, other": ([*GOOD, Stood(22, A, "FAILED")], "is FAILED"),
    "an_end_is_the_end, two": (
        [*GOOD, *entries(4, "completed", start=1_000_000_007)],
        "ends at 1000000006 and at 1000000007",
    ),
    "an_end_is_the_end, goes on": (
        [*GOOD, *entries(4, "step_finished", start=1_000_000_007)],
        "goes on at",
    ),
    "a_cancellation_holds": (
        [*GOOD, Cancelled(9, B), Stood(22, B, "FAILED")],
        "is FAILED at rest",
    ),
    "an_item_has_one_result": (
        [*GOOD, Stood(22, A, "COMPLETED", (("/0", "Q"),))],
        "is P and Q",
    ),
    "an_item_has_one_result, twice": (
        [*GOOD, *entries(4, "image_finished", start=1_000_000_007)],
        "ends twice",
    ),
    "nothing_comes_from_a_lost_worker": (
        [*GOOD, Opened(22, 5, B, 1), *entries(5, "image_decoded", "retried", "image_finished")],
        "from before",
    ),
    "results_are_there": ([*GOOD, Downloaded(22, "P", "", "DATA_CORRUPTED")], "DATA_CORRUPTED"),
    "results_are_there, other": ([*GOOD, Downloaded(22, "P", "Q")], "read as Q"),
    "results_are_there, unread": (without(Downloaded), "was never read"),
    "the_queue_has_its_order": (
        [*GOOD, *accepted(B, "other", 1.5), replace(DONE, begun=1.9)],
        "came after",
    ),
    "the_queue_has_its_order, urgent": (
        [*GOOD, *accepted(B, "other", 3, priority=1), DONE, *accepted("c", "third", 0.5),
         Stood(22, "c", "COMPLETED", begun=4.0)],
        "more urgent",
    ),
}  # fmt: skip


def test_a_good_history_breaks_nothing() -> None:
    assert not broken(GOOD)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_breaks_its_rule(name: str) -> None:
    history, why = BAD[name]
    (rule,) = (each for each in RULES if each.__name__ == name.partition(",")[0])
    assert any(why in line for line in rule(history)), list(rule(history))


def test_what_waits_for_no_device_may_begin_at_once() -> None:
    batch = Acknowledged(1.6, "anna", "other", B)
    assert not broken([*GOOD, Submitted(1.5, "anna", "other"), batch, replace(DONE, begun=1.9)])


def test_every_rule_has_a_history_that_breaks_it() -> None:
    def names(rules: Iterable[Rule]) -> set[str]:
        return {rule.__name__ for rule in rules}

    assert {name.partition(",")[0] for name in BAD} == names(RULES)


def test_a_history_is_read_as_it_was_saved(tmp_path: Path) -> None:
    history = [*GOOD, Cancelled(30, A)]
    save(history, tmp_path / "history.jsonl")
    assert load(tmp_path / "history.jsonl") == history
