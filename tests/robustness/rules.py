"""What must hold of every history, whatever was killed when. Each rule gives one line for each
place where it is broken; `tests/robustness/test_rules.py` has a history that breaks it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tests.robustness.history import (
    Acknowledged,
    Cancelled,
    Downloaded,
    Entry,
    Expired,
    Listed,
    Opened,
    Record,
    Stood,
    Submitted,
)

ENDS = {"completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}
"""States in which sessions stay, by the entries that tell of them."""
_DRAWN = ("image_decoded", "phase_started")
_PASSING_AWAY = ("step_finished", "transfer_progress", "image_finished", "item_finished")
"""Kept only while the server lives, or until the work starts over."""

_R = TypeVar("_R", bound=Record)
Rule = Callable[[list[Record]], Iterator[str]]


def _of(history: Iterable[Record], kind: type[_R]) -> Iterator[_R]:
    return (each for each in history if isinstance(each, kind))


def _streams(history: list[Record]) -> Iterator[tuple[Opened, list[Entry]]]:
    entries: dict[int, list[Entry]] = defaultdict(list)
    for entry in _of(history, Entry):
        entries[entry.stream].append(entry)
    return ((opened, entries[opened.stream]) for opened in _of(history, Opened))


def nothing_is_lost(history: list[Record]) -> Iterator[str]:
    """P09: whoever was told that work is accepted finds its session from then on."""
    told: dict[str, dict[str, float]] = defaultdict(dict)
    for record in history:
        if isinstance(record, Acknowledged):
            told[record.client].setdefault(record.session_id, record.at)
        elif isinstance(record, Listed):
            for session_id, at in told[record.client].items():
                if at <= record.at and session_id not in record.session_ids:
                    yield f"{session_id} was accepted at {at} and is gone at {record.at}"


def everything_ends(history: list[Record]) -> Iterator[str]:
    """P09: at rest each accepted session is final."""
    last = {each.session_id: each.state for each in _of(history, Stood)}
    for session_id in {each.session_id for each in _of(history, Acknowledged)}:
        state = last.get(session_id, "never seen")
        if state not in ENDS.values():
            yield f"{session_id} was accepted and is {state} at rest"


def a_request_is_one_session(history: list[Record]) -> Iterator[str]:
    """P10, P12: the same request_id is the same session with the same seeds, and no other
    request's."""
    sessions: dict[tuple[str, str], Acknowledged] = {}
    requests: dict[str, tuple[str, str]] = {}
    for each in _of(history, Acknowledged):
        key = (each.client, each.request_id)
        first = sessions.setdefault(key, each)
        if first.session_id != each.session_id:
            yield f"{each.request_id} is {first.session_id} and {each.session_id}"
        elif first.seeds != each.seeds:
            yield f"{each.session_id} has the seeds {first.seeds} and {each.seeds}"
        if requests.setdefault(each.session_id, key) != key:
            yield f"{each.session_id} is of {requests[each.session_id]} and of {key}"


def numbers_have_order_and_no_gap(history: list[Record]) -> Iterator[str]:
    """P13, P14: from the number that was asked for on each is there once, in order. A stream
    from the first on may lack what is kept no more; what lasts is always there."""
    lasting: dict[str, dict[int, str]] = defaultdict(dict)
    for opened, entries in _streams(history):
        where = f"stream {opened.stream} of {opened.session_id}"
        due = opened.start if opened.start > 1 else None
        reached = 0
        for entry in entries:
            if entry.sequence <= reached:
                yield f"{where} has {entry.sequence} after {reached}"
            elif due is not None and entry.sequence != due:
                yield f"{where} has {entry.sequence} and {due} was next"
            elif due is None:
                lasts = lasting[opened.session_id]
                for number in sorted(each for each in lasts if reached < each < entry.sequence):
                    yield f"{where} leaves out {number} ({lasts[number]})"
            reached = entry.sequence
            due = None if opened.start <= 1 else reached + 1
        for entry in entries:
            if entry.kind not in _PASSING_AWAY:
                lasting[opened.session_id][entry.sequence] = entry.kind
    for expired in _of(history, Expired):
        if expired.first <= expired.start:
            yield (
                f"stream {expired.stream} was refused {expired.start} though events are kept"
                f" from {expired.first} on"
            )


def a_number_is_one_event(history: list[Record]) -> Iterator[str]:
    """P13: whoever sees an event sees the same one, however often the server was killed."""
    seen: dict[tuple[str, int], tuple[str, str]] = {}
    for each in _of(history, Entry):
        said = (each.kind, each.content)
        first = seen.setdefault((each.session_id, each.sequence), said)
        if first != said:
            yield f"{each.session_id} has at {each.sequence} {first} and {said}"


def an_end_is_the_end(history: list[Record]) -> Iterator[str]:
    """P13: what has ended stays as it is, and has one last entry."""
    ends: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for each in history:
        if isinstance(each, Entry):
            number = numbers.get(each.session_id)
            if each.kind in ENDS:
                if numbers.setdefault(each.session_id, each.sequence) != each.sequence:
                    yield f"{each.session_id} ends at {number} and at {each.sequence}"
            elif number is not None and each.sequence > number:
                yield f"{each.session_id} ended at {number} and goes on at {each.sequence}"
            state = ENDS.get(each.kind)
        elif isinstance(each, Stood):
            state = each.state
        else:
            continue
        end = ends.get(each.session_id)
        if end is not None and state is not None and state != end:
            yield f"{each.session_id} was {end} and is {state}"
        if state in ENDS.values():
            ends.setdefault(each.session_id, state)


def a_cancellation_holds(history: list[Record]) -> Iterator[str]:
    """P07: what was cancelled ends, and no failure is made of it by a kill."""
    last = {each.session_id: each.state for each in _of(history, Stood)}
    for each in _of(history, Cancelled):
        state = last.get(each.session_id, "")
        if state not in ("CANCELLED", "COMPLETED"):
            yield f"{each.session_id} was cancelled and is {state or 'never seen'} at rest"


def an_item_has_one_result(history: list[Record]) -> Iterator[str]:
    """P11: whatever runs how often, a picture of a session is one artifact."""
    results: dict[tuple[str, str], str] = {}
    for each in history:
        found: list[tuple[str, str, str]] = []
        if isinstance(each, Entry) and each.kind == "image_finished":
            found = [(each.session_id, each.image, each.artifact_id)]
        elif isinstance(each, Stood):
            found = [(each.session_id, index, artifact) for index, artifact in each.images]
        for session_id, index, artifact in found:
            first = results.setdefault((session_id, index), artifact)
            if first != artifact:
                yield f"picture {index} of {session_id} is {first} and {artifact}"
    for opened, entries in _streams(history):
        finished = [each.image for each in entries if each.kind == "image_finished"]
        for index in {each for each in finished if finished.count(each) > 1}:
            yield f"stream {opened.stream}: picture {index} of {opened.session_id} ends twice"


def nothing_comes_from_a_lost_worker(history: list[Record]) -> Iterator[str]:
    """P11: a picture that comes after its work started over was drawn since. Those of items
    are drawn in sessions of their own."""
    for opened, entries in _streams(history):
        drawn: set[str] | None = None  # None: it has not started over
        for entry in entries:
            if entry.kind == "retried":
                drawn = set()
            elif drawn is not None and entry.kind in _DRAWN:
                drawn.add(entry.image)
            elif drawn is None or entry.kind != "image_finished":
                continue
            elif entry.image.startswith("/") and entry.image not in drawn:
                yield (
                    f"stream {opened.stream}: picture {entry.image} of {entry.session_id} comes"
                    " from before it started over"
                )


def results_are_there(history: list[Record]) -> Iterator[str]:
    """P16: at rest every picture that was told can be read, and is what its name says."""
    read = {each.artifact_id: each for each in _of(history, Downloaded)}
    for each in read.values():
        if each.sha256 != each.artifact_id:
            yield f"{each.artifact_id} was read as {each.sha256 or each.reason}"
    last = {each.session_id: each for each in _of(history, Stood)}
    for stood in last.values():
        for _, artifact_id in stood.images:
            if artifact_id not in read:
                yield f"{artifact_id} of {stood.session_id} was never read"


def the_queue_has_its_order(history: list[Record]) -> Iterator[str]:
    """P36: of one client's work what came first begins first, and what is more urgent before
    what is less, where both waited. What has no seeds of its own waits for no device."""
    stood = {each.session_id: each for each in _of(history, Stood) if each.begun is not None}
    sent: dict[tuple[str, str], Submitted] = {}
    for each in _of(history, Submitted):
        sent.setdefault((each.client, each.request_id), each)
    heard: dict[str, Acknowledged] = {}
    for acknowledged in _of(history, Acknowledged):
        heard.setdefault(acknowledged.session_id, acknowledged)
    known = [
        (each, sent[each.client, each.request_id], stood[each.session_id].begun or 0.0)
        for each in heard.values()
        if each.session_id in stood and each.seeds
    ]
    for one, asked, begun in known:
        for other, later, other_begun in known:
            if one.client != other.client or begun <= other_begun:
                continue
            if asked.priority == later.priority and one.at < later.at:
                yield f"{other.session_id} came after {one.session_id} and began before it"
            if asked.priority < later.priority and one.at < other_begun:
                yield (
                    f"{other.session_id} began while {one.session_id} waited, which is more"
                    " urgent"
                )


RULES: tuple[Rule, ...] = (
    nothing_is_lost,
    everything_ends,
    a_request_is_one_session,
    numbers_have_order_and_no_gap,
    a_number_is_one_event,
    an_end_is_the_end,
    a_cancellation_holds,
    an_item_has_one_result,
    nothing_comes_from_a_lost_worker,
    results_are_there,
    the_queue_has_its_order,
)


def broken(history: list[Record]) -> list[str]:
    """Everything that does not hold, with the rule that says so."""
    return [f"{rule.__name__}: {line}" for rule in RULES for line in rule(history)]
