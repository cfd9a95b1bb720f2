"""Places that clients share so that none can keep the others out."""

from __future__ import annotations

from collections import Counter


class Room:
    """Counts who holds how many of a number of places, and says whether one more fits.

    A client that is alone may take every place. Once others are there it gets no more
    while it holds its share, and what it holds beyond its share does not count against
    them: they come in at once and not when it is done. So all together hold at most
    `most`, which is a little more than `places`.

    Args:
        places: Places in all.
        share: What one client may hold while others are there; half of the places
            unless said otherwise, and at least one.
    """

    def __init__(self, places: int, share: int | None = None) -> None:
        self.places = places
        self.share = max(1, min(places, places // 2 if share is None else share))
        self._held: Counter[str] = Counter()

    @property
    def most(self) -> int:
        """Most places that are ever held."""
        return max(self.places, 2 * self.places - self.share)

    @property
    def taken(self) -> int:
        """Places that are held."""
        return self._held.total()

    def alone(self, client: str) -> bool:
        """Whether nobody else holds a place."""
        return self.taken == self._held[client]

    def has_place_for(self, client: str, places: int = 1) -> bool:
        """Whether this client may take so many more."""
        held = self._held[client]
        if self.alone(client):
            return held + places <= self.places
        counted = sum(min(held, self.share) for held in self._held.values())
        return held + places <= self.share and counted + places <= self.places

    def limit_for(self, client: str) -> int:
        """How many it may hold as things are."""
        return self.places if self.alone(client) else self.share

    def take(self, client: str, places: int = 1) -> None:
        """Count so many more; whether there are such places has been asked before."""
        self._held[client] += places

    def give_back(self, client: str, places: int = 1) -> None:
        """Count so many less."""
        self._held[client] -= places
        if self._held[client] <= 0:
            del self._held[client]
