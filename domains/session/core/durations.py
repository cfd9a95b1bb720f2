"""How often something happened and how long it took, with a window of the newest times."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from domains.codec import Seconds, Value

WINDOW = 128
"""How many of the newest times percentiles are taken of."""
Total = Annotated[int, Meta(ge=0, le=2**62)]


class Durations(Value, frozen=True):
    """How often something happened, how long it took in all, and the newest times, the newest
    last; in seconds."""

    count: Total = 0
    total: Seconds = 0.0
    newest: Annotated[tuple[Seconds, ...], Meta(max_length=WINDOW)] = ()

    def with_time(self, seconds: float) -> Durations:
        """The same with one more."""
        newest = (*self.newest, seconds)[-WINDOW:]
        return Durations(self.count + 1, self.total + seconds, newest)

    def and_of(self, other: Durations) -> Durations:
        """Both together; of the newest times of each as many as there is room for."""
        mine, theirs = self.newest, other.newest
        if len(mine) + len(theirs) > WINDOW:
            least = min(len(mine), len(theirs), WINDOW // 2)
            mine = mine[-max(least, WINDOW - len(theirs)) :]
            theirs = theirs[-max(least, WINDOW - len(mine)) :]
        return Durations(self.count + other.count, self.total + other.total, mine + theirs)
