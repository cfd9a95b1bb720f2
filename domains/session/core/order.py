"""Who comes next on a device."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator

from domains.clock import Clock
from domains.session.core.places import Lane, Place, Places, lane_of
from domains.session.core.session import Session
from domains.session.types import Priority, SessionState

_PATIENCE_SECONDS = 600.0


class TurnOrder:
    """By priority; within one, what was interrupted, then rounds in which everybody has a turn.

    Within a round the client goes first whose last turn is longest ago. A client's first
    session of a priority counts as the most urgent once it has waited too long, and every other
    like it of that client as well.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns = itertools.count()
        self._last_turns: dict[str, int] = {}
        self._served: dict[tuple[str, Priority], float] = {}
        self._served_before: float | None = None

    def of(self, places: Iterable[Place]) -> list[Place]:
        """These places, next first."""
        return [place for _, level in self.levels(places) for place in level]

    def levels(self, places: Iterable[Place]) -> list[tuple[int, list[Place]]]:
        """These places by the urgency with which they count, the most urgent and next first."""
        rounds: Counter[tuple[Priority, str]] = Counter()
        firsts: set[tuple[str, Priority]] = set()
        keys: dict[int, tuple[int, bool, int, int, int]] = {}
        by_arrival = sorted(places, key=lambda place: place.arrival)
        for place in by_arrival:
            owner, priority = lane_of(place.session)
            if (owner, priority) not in firsts:
                firsts.add((owner, priority))
                if self.neglected(place.session):
                    priority = Priority.HIGH
            keys[place.arrival] = (
                priority.value,
                not place.interrupted,
                rounds[priority, owner],
                self._last_turns.get(owner, -1),
                place.arrival,
            )
            rounds[priority, owner] += 1
        ordered = sorted(by_arrival, key=lambda place: keys[place.arrival])
        by_level = itertools.groupby(ordered, key=lambda place: keys[place.arrival][0])
        return [(level, list(group)) for level, group in by_level]

    def coming(self, places: Places) -> Iterator[Place]:
        """Those of a queue that wait, next first, as `of` has them; each is looked for when it
        is asked for, so that whoever needs the next one alone does not have thousands sorted.
        """
        if places.any_interrupted:  # seldom and never for long: it is the next one
            yield from self.of(place for place in places if place.waits)
            return
        rounds = [
            (priority.value, 0, self._last_turns.get(owner, -1), first.arrival, first, line)
            for (owner, priority), line in self._lines(places).items()
            if (first := next(line, None)) is not None
        ]
        heapq.heapify(rounds)  # no two have the same arrival, so places are never compared
        while rounds:
            level, number, last_turn, _, place, line = rounds[0]
            yield place
            following = next(line, None)
            if following is None:
                heapq.heappop(rounds)
            else:
                entry = (level, number + 1, last_turn, following.arrival, following, line)
                heapq.heapreplace(rounds, entry)

    def _lines(self, places: Places) -> dict[Lane, Iterator[Place]]:
        """Those that wait of each client and priority with which they count, in the order of
        their arrival."""
        lines: dict[Lane, Iterator[Place]] = {}
        urgent: dict[str, list[Place]] = {}
        for lane, line in places.lanes.items():
            waiting: Iterator[Place] = (place for place in line if place.waits)
            first = next(waiting, None)
            if first is not None and self.neglected(first.session):
                urgent.setdefault(lane[0], []).append(first)
            elif first is not None:
                waiting = itertools.chain([first], waiting)
            lines[lane] = waiting
        for owner, firsts in urgent.items():
            most = owner, Priority.HIGH
            firsts.sort(key=_arrival)
            lines[most] = heapq.merge(firsts, lines.get(most, iter(())), key=_arrival)
        return lines

    def neglected(self, session: Session) -> bool:
        """Whether it has waited too long, and every other like it of its client as well."""
        if session.state is not SessionState.QUEUED:
            return False
        since_turn = self._clock.monotonic() - self._served.get(lane_of(session), -math.inf)
        return min(session.waited_seconds, since_turn) >= _PATIENCE_SECONDS

    def begin(self, place: Place, places: Places) -> None:
        """A turn begins. What is remembered of clients is forgotten unless they wait."""
        place.promoted, place.interrupted = self.neglected(place.session), False
        owners = {place.session.owner, *(owner for owner, _ in places.lanes)}
        self._last_turns = {o: t for o, t in self._last_turns.items() if o in owners}
        self._served = {key: t for key, t in self._served.items() if key[0] in owners}
        key = lane_of(place.session)
        self._last_turns[key[0]] = next(self._turns)
        self._served_before = self._served.get(key)
        self._served[key] = self._clock.monotonic()

    def give_way(self, place: Place, *, stepped: bool) -> None:
        """The turn that began last ends early; without a step it was none that served."""
        key = lane_of(place.session)
        if stepped:
            self._served[key] = self._clock.monotonic()
        elif self._served_before is not None:
            self._served[key] = self._served_before
        else:
            self._served.pop(key, None)


def _arrival(place: Place) -> int:
    return place.arrival
