"""Who comes next in a queue, found one by one: the same as when all of them are sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.session.core.about import About
from domains.session.core.order import TurnOrder
from domains.session.core.placed import Placed
from domains.session.core.places import Place, Places
from domains.session.core.progress import Progress
from domains.session.core.session import Session
from domains.session.types import Priority, SessionKind, SessionState, WorkOptions
from domains.values import PlacementDecision
from tests.clocks import SteeredTime

OWNERS = "abc"


class Row:
    """A queue's places, of which nothing runs but in a moment's turn."""

    def __init__(self) -> None:
        self.time = SteeredTime()
        self.order, self.places = TurnOrder(self.time.clock), Places()
        self.arrivals = 0

    def come(self, owner: str = "a", priority: Priority = Priority.NORMAL) -> Place:
        session = Session(
            About(str(self.arrivals), SessionKind.GENERATION, owner),
            WorkOptions(priority=priority),
            placed=Placed(PlacementDecision.named("cpu:0")),
            done=Progress(1, 1),
            retention=timedelta(hours=1),
            clock=self.time.clock,
            changed=lambda session: None,
        )
        place = Place(session, _no_turn, self.arrivals)
        self.arrivals += 1
        self.places.add(place)
        return place

    def give_priority(self, place: Place, priority: Priority) -> None:
        place.session.update(replace(place.session.options, priority=priority))
        self.places.moved(place.session)

    def take(self) -> Place:
        """The next one has its turn."""
        place = next(self.order.coming(self.places))
        self.order.begin(place, self.places)
        self.places.remove([place])
        return place

    def put_back(self, place: Place, *, interrupted: bool) -> None:
        place.interrupted = interrupted
        self.places.add(place, returns=True)

    def sorted(self) -> Sequence[Place]:
        return self.order.of(place for place in self.places if place.waits)

    def any_of(self, number: int) -> Place | None:
        places = list(self.places)
        return places[number % len(places)] if places else None


async def _no_turn(session: Session) -> None:
    raise AssertionError("nothing runs here")


def test_who_is_next_is_found_without_a_look_at_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row, looked = Row(), []
    for _ in range(1_000):
        row.come()
        row.come("b", Priority.HIGH)
    waits = Place.waits.fget
    assert waits is not None

    def counted(place: Place) -> bool:
        looked.append(place)
        return waits(place)

    monkeypatch.setattr(Place, "waits", property(counted))
    for _ in range(10):
        row.take()
    assert len(looked) <= 10 * 2 * 2  # the first of each lane, and the one behind it


def test_one_of_another_priority_is_in_the_lane_of_that_where_it_arrived() -> None:
    row = Row()
    first, second, third = (row.come() for _ in range(3))
    urgent = row.come(priority=Priority.HIGH)
    row.give_priority(second, Priority.HIGH)
    assert [*row.order.coming(row.places)] == [second, urgent, first, third]
    row.places.moved(Row().come().session)  # it is not here
    row.places.remove([second, urgent])
    assert [*row.order.coming(row.places)] == [first, third]
    assert row.places.of(second.session) is None


def test_one_that_comes_back_goes_by_its_arrival() -> None:
    row = Row()
    row.come("b")
    first = row.come()
    row.come()
    row.take()
    assert row.take() is first
    row.put_back(first, interrupted=False)
    assert next(row.order.coming(row.places)) is first


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["come"] * 4 + ["turn", "turn back", "interrupted", "pause", "raise", "time", "end"]
        ),
        st.integers(0, 60),
        st.sampled_from(list(Priority)),
        st.sampled_from(OWNERS),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS)
def test_those_that_are_found_one_by_one_are_in_the_order_of_all(
    operations: list[tuple[str, int, Priority, str]],
) -> None:
    row = Row()
    for what, number, priority, owner in operations:
        place = row.any_of(number)
        if what == "come":
            row.come(owner, priority)
        elif what == "time":
            row.time.move(20 * number)  # some wait too long
        elif what.startswith(("turn", "interrupted")) and row.sorted():
            taken = row.take()
            if what != "turn":
                row.put_back(taken, interrupted=what == "interrupted")
        elif place is not None and what == "pause":
            paused = place.session.state is SessionState.PAUSED
            place.session.resume() if paused else place.session.request_pause()
        elif place is not None and what == "raise":
            row.give_priority(place, priority)
        elif place is not None and what == "end":
            row.places.remove([place])
        expected = row.sorted()
        assert [*row.order.coming(row.places)] == expected
        assert [*islice(row.order.coming(row.places), 1)] == expected[:1]
        in_lanes = [place for line in row.places.lanes.values() for place in line]
        assert {*in_lanes} == {*row.places}
        assert len(in_lanes) == len(row.places)
