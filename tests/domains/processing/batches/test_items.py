"""The items of a batch: any sequence of calls leaves what a small model says."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domains.codec import decode, encode
from domains.errors import Failure, Reason
from domains.processing.batches.core.groups import goes_with
from domains.processing.batches.core.items import Items
from domains.processing.batches.types import ItemRecord, ItemWork, Retry, Settled
from domains.session.types import SessionState
from domains.session.types.named import Named
from domains.values import ModelContent

BROKEN = Failure(13, Reason.INTERNAL, "It failed.")
WRONG = Failure(3, Reason.FIELD_OUT_OF_RANGE, "It is wrong.")
ENDS = (SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED)


def names(work: ItemWork) -> Named:
    """Each has an artifact of its own, and all have one in common."""
    return Named(frozenset({work.item_id, "common"}))


def record(position: int, state: SessionState = SessionState.QUEUED) -> ItemRecord:
    return ItemRecord("batch", position, f"item {position}", b"", Settled((), ""), state)


def of(count: int, retry: Retry | None = None) -> Items:
    items = Items(retry or Retry(), names)
    for position in range(count):
        items.add(record(position))
    return items


def end(
    items: Items, position: int, state: SessionState, failure: Failure | None = None
) -> ItemRecord:
    after = items.after(position, state, "s", (), failure, worked_seconds=1.0)
    items.apply(after, 0.0)
    return after


@given(st.data())
def test_any_sequence_of_calls_leaves_every_item_where_it_belongs(data: st.DataObject) -> None:
    attempts = data.draw(st.integers(1, 3))
    items = Items(Retry(attempts, 2.0), names)
    states: list[SessionState] = []  # the model: QUEUED, RUNNING while at work, or an end
    tried: Counter[int] = Counter()
    now = 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(
            st.sampled_from(["add", "take", "end", "wait", "cancel", "again", "release"])
        )
        at_work = [at for at, state in enumerate(states) if state is SessionState.RUNNING]
        if action == "add":
            items.add(record(len(states)))
            states.append(SessionState.QUEUED)
        elif action == "take":
            taken = items.take(now)
            if taken is not None:
                assert states[taken.position] is SessionState.QUEUED
                states[taken.position] = SessionState.RUNNING
            elif SessionState.QUEUED in states:
                assert items.next_due(now)  # all that wait are at a pause between tries
        elif action == "end" and at_work:
            position = data.draw(st.sampled_from(at_work))
            state = data.draw(st.sampled_from(ENDS))
            failure = BROKEN if state is SessionState.FAILED else None
            after = items.after(position, state, "s", (), failure, worked_seconds=1.0)
            assert items[position].state is SessionState.QUEUED  # nothing is told yet
            items.apply(after, now)
            tried[position] += 1
            again = state is SessionState.FAILED and tried[position] < attempts
            states[position] = SessionState.QUEUED if again else state
        elif action == "wait":
            now += 10.0
        elif action == "cancel":
            for cancelled in items.cancel_waiting():
                assert states[cancelled.position] is SessionState.QUEUED
                states[cancelled.position] = SessionState.CANCELLED
            assert SessionState.QUEUED not in states
        elif action == "again":
            for at, state in enumerate(states):
                if state in (SessionState.FAILED, SessionState.CANCELLED):
                    items.again(at)
                    states[at] = SessionState.QUEUED
                    tried[at] = 0
        elif action == "release":
            items.release()
            for at in at_work:
                states[at] = SessionState.QUEUED
        model = Counter(
            SessionState.QUEUED if state is SessionState.RUNNING else state for state in states
        )
        assert {state: items.count(state) for state in model} == model
        assert [each.state for each in items.all] == [
            SessionState.QUEUED if state is SessionState.RUNNING else state for state in states
        ]
        assert set(items.at_work) == {
            at for at, state in enumerate(states) if state is SessionState.RUNNING
        }
        assert items.all_ended is (model[SessionState.QUEUED] == 0)
        needed = {each.item_id for each in items.all if each.state is SessionState.QUEUED}
        assert set(items.names.artifacts) == (needed | {"common"} if needed else needed)


def test_items_are_taken_in_their_order_and_retries_first() -> None:
    items = of(3, Retry(2, 5.0))
    assert [items.take(0.0), items.next_due(0.0)] == [record(0), 0.0]
    end(items, 0, SessionState.FAILED, BROKEN)
    assert items.take(4.0) == record(1)
    assert (again := items.take(5.0)) is not None
    assert (again.position, again.attempts) == (0, 1)
    assert items.take(5.0) == record(2)
    assert items.take(5.0) is None
    assert items.next_due(5.0) is None


def test_pauses_between_tries_double() -> None:
    items = of(1, Retry(4, 3.0))
    for pause in (3.0, 6.0, 12.0):
        items.take(1e9)
        end(items, 0, SessionState.FAILED, BROKEN)
        assert items.next_due(0.0) == pause
    items.take(1e9)
    assert end(items, 0, SessionState.FAILED, BROKEN).state is SessionState.FAILED


def test_what_is_wrong_is_not_tried_again() -> None:
    items = of(1, Retry(4, 0.0))
    items.take(0.0)
    assert end(items, 0, SessionState.FAILED, WRONG).state is SessionState.FAILED


def test_what_never_began_was_no_attempt() -> None:
    items = of(1)
    items.take(0.0)
    after = items.after(0, SessionState.CANCELLED, "s", began=False, worked_seconds=0.0)
    assert after.attempts == 0


def test_items_that_were_accepted_for_other_content_do_not_share_passes() -> None:
    """A model that was replaced between two calls of AddBatchItems."""

    def using(position: int, **contents: str) -> ItemRecord:
        found = tuple(ModelContent(name, 1, hash * 64) for name, hash in contents.items())
        return replace(record(position), settled=Settled((1,), "model", found))

    group = [using(0, model="a", lora="b"), using(1, model="a", style="c")]
    for other, fits in (
        (using(2, model="a"), True),
        (using(2, model="a", other="d"), True),
        (using(2), True),
        (using(2, model="b"), False),
        (using(2, model="a", style="d"), False),
    ):
        assert goes_with(group, other) is fits


def test_an_item_of_a_version_that_noted_no_content_is_known() -> None:
    raw: dict[str, dict[str, object]] = decode(dict, encode(record(0)))
    del raw["settled"]["contents"]
    assert decode(ItemRecord, encode(raw)) == record(0)
