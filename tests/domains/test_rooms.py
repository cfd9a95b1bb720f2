"""Places that clients share: nobody is kept out, and nothing grows without a bound."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from domains.rooms import Room


def fill(room: Room, client: str) -> int:
    """How many it gets."""
    count = 0
    while room.has_place_for(client):
        room.take(client)
        count += 1
    return count


def test_a_client_that_is_alone_may_take_every_place() -> None:
    room = Room(10)
    assert fill(room, "one") == 10
    assert (room.taken, room.limit_for("one")) == (10, 10)


def test_one_that_took_all_keeps_nobody_out() -> None:
    room = Room(10)
    fill(room, "greedy")
    assert [fill(room, client) for client in ("two", "three")] == [5, 0]
    assert room.taken == room.most == 15


def test_with_others_there_a_client_gets_its_share() -> None:
    room = Room(10)
    room.take("two")
    assert fill(room, "one") == 5
    assert room.limit_for("one") == 5
    room.give_back("two")
    assert fill(room, "one") == 5


def test_what_is_given_back_can_be_taken_again() -> None:
    room = Room(2)
    fill(room, "one")
    room.give_back("one")
    assert fill(room, "one") == 1


@pytest.mark.parametrize(
    ("places", "share"), [(1, None), (2, None), (3, None), (64, 8), (5, 9)]
)
def test_no_crowd_takes_more_than_most(places: int, share: int | None) -> None:
    room, chance, held = Room(places, share), random.Random(places), Counter[str]()
    for _ in range(5_000):
        client = chance.choice("abcdefgh")
        if chance.random() < 0.7 and room.has_place_for(client):
            room.take(client)
            held[client] += 1
        elif held[client]:
            room.give_back(client)
            held[client] -= 1
        assert room.taken == held.total() <= room.most
        assert room.most <= 2 * places
        beyond = [count for count in held.values() if count > room.share]
        assert len(beyond) <= 1


def test_a_room_without_places_lets_nobody_in() -> None:
    assert not Room(0).has_place_for("one")


def test_places_are_taken_by_many_at_once() -> None:
    room = Room(100)
    assert room.has_place_for("ann", 100)
    assert not room.has_place_for("ann", 101)
    room.take("ann", 80)
    assert room.has_place_for("ann", 20)
    assert not room.has_place_for("ann", 21)
    assert room.has_place_for("bob", 50)
    assert not room.has_place_for("bob", 51)
    room.take("bob", 40)
    assert not room.has_place_for("ann", 1)
    assert room.has_place_for("bob", 10)
    assert room.has_place_for("cid", 10)
    assert not room.has_place_for("cid", 11)
    room.give_back("ann", 80)
    room.give_back("bob", 40)
    assert room.taken == 0
