"""Who is in a queue, kept so that the next ones are found without looking at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass

from domains.session.core.session import Session
from domains.session.types import Priority, SessionState

Turn = Callable[[Session], Awaitable[None]]
Lane = tuple[str, Priority]
"""A client, and a priority of sessions of theirs."""


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


class Places:
    """Those that wait, are paused, or ended while they did and were not taken out yet.

    They lie in lanes, one for each client and priority, in the order of their arrival. Whoever
    changes a session's priority says so with `moved`.
    """

    def __init__(self) -> None:
        self._all: dict[Session, Place] = {}
        self._lanes: dict[Lane, dict[int, Place]] = {}
        self._lane_of: dict[Place, Lane] = {}
        self._returned: dict[Place, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._all.values())

    @property
    def lanes(self) -> Mapping[Lane, ValuesView[Place]]:
        """Those of each client and priority of which there are any, in the order of their
        arrival."""
        return {lane: places.values() for lane, places in self._lanes.items()}

    @property
    def any_interrupted(self) -> bool:
        """Whether one that waits is to go on before its equals."""
        return any(place.interrupted and place.waits for place in self._returned)

    def of(self, session: Session) -> Place | None:
        """A session's; None where it has none here."""
        return self._all.get(session)

    def add(self, place: Place, *, returns: bool = False) -> None:
        """Put one in; `returns` if it had a turn before, and so came before others."""
        self._all[place.session] = place
        if returns:
            self._returned[place] = None
        self._line_up(place)

    def remove(self, places: Iterable[Place]) -> None:
        """Take these out."""
        for place in places:
            del self._all[place.session]
            self._returned.pop(place, None)
            self._leave_lane(place)

    def moved(self, session: Session) -> None:
        """Its priority may have changed, if it is here at all."""
        place = self._all.get(session)
        if place is not None and self._lane_of[place] != lane_of(session):
            self._leave_lane(place)
            self._line_up(place)

    def _line_up(self, place: Place) -> None:
        lane = self._lane_of[place] = lane_of(place.session)
        line = self._lanes.setdefault(lane, {})
        last = next(reversed(line), -1)
        line[place.arrival] = place
        if place.arrival < last:
            self._lanes[lane] = dict(sorted(line.items()))

    def _leave_lane(self, place: Place) -> None:
        lane = self._lane_of.pop(place)
        del self._lanes[lane][place.arrival]
        if not self._lanes[lane]:
            del self._lanes[lane]


def lane_of(session: Session) -> Lane:
    """The client and the priority of a session."""
    return session.owner, session.options.priority
