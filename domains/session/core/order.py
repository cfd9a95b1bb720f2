"""Who comes next on a device."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from domains.clock import Clock
from domains.session.core.session import Session
from domains.session.types import Priority, SessionState

_PATIENCE_SECONDS = 600.0

Turn = Callable[[Session], Awaitable[None]]


@dataclass(eq=False)
class Place:
    """A session in a queue, and how far it has come with its slice of work.

    `promoted` says of a turn that it came because the session had waited too long,
    `interrupted` that more urgent work took one away: the session goes on before its equals.
    `slice_seconds` are those of the slice that it had worked then.
    """

    session: Session
    turn: Turn
    arrival: int
    promoted: bool = False
    interrupted: bool = False
    slice_seconds: float = 0.0

    @property
    def waits(self) -> bool:
        """Whether its turn is still to come."""
        return self.session.state is SessionState.QUEUED


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
            owner, priority = _key(place.session)
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

    def neglected(self, session: Session) -> bool:
        """Whether it has waited too long, and every other like it of its client as well."""
        if session.state is not SessionState.QUEUED:
            return False
        since_turn = self._clock.monotonic() - self._served.get(_key(session), -math.inf)
        return min(session.waited_seconds, since_turn) >= _PATIENCE_SECONDS

    def begin(self, place: Place, waiting: Iterable[Place]) -> None:
        """A turn begins. What is remembered of clients is forgotten unless they wait."""
        place.promoted, place.interrupted = self.neglected(place.session), False
        owners = {place.session.owner, *(other.session.owner for other in waiting)}
        self._last_turns = {o: t for o, t in self._last_turns.items() if o in owners}
        self._served = {key: t for key, t in self._served.items() if key[0] in owners}
        key = _key(place.session)
        self._last_turns[key[0]] = next(self._turns)
        self._served_before = self._served.get(key)
        self._served[key] = self._clock.monotonic()

    def give_way(self, place: Place, *, stepped: bool) -> None:
        """The turn that began last ends early; without a step it was none that served."""
        key = _key(place.session)
        if stepped:
            self._served[key] = self._clock.monotonic()
        elif self._served_before is not None:
            self._served[key] = self._served_before
        else:
            self._served.pop(key, None)


def _key(session: Session) -> tuple[str, Priority]:
    return session.owner, session.options.priority
