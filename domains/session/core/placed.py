"""Where a session goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from domains.session.core.speeds import Effort
from domains.values import PlacementDecision


@dataclass(frozen=True)
class Placed:
    """A piece of work and the device that was chosen for it.

    `effort` is None where the work cannot be compared with other work. `again` chooses anew
    among the devices that are ready now, and returns None when there is no other; it is None
    itself where the work is for that device alone.
    """

    decision: PlacementDecision
    effort: Effort | None = None
    again: Callable[[], PlacementDecision | None] | None = None
