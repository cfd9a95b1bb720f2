"""When a session that runs lets another one run."""

from __future__ import annotations

from collections.abc import Sequence

from domains.session.core.order import TurnOrder
from domains.session.core.places import Place
from domains.session.core.session import Session
from domains.session.turns import YieldReason
from domains.session.types import Priority, SessionState


class YieldRule:
    """More urgent work comes at once, other clients' after a slice of work.

    A slice is counted from a turn's first finished step on: loading a model for longer than a
    slice is no reason to stop before anything is done. A session whose turn came because it
    had waited too long works one slice, whatever comes.

    Args:
        order: Who has waited too long.
        slice_seconds: How long a session works while other clients' wait.
    """

    def __init__(self, order: TurnOrder, slice_seconds: float) -> None:
        self._order = order
        self._slice_seconds = slice_seconds

    def over(self, place: Place) -> bool:
        """Whether the slice of a session that runs is over."""
        worked = place.session.slice_seconds
        return worked is not None and place.slice_seconds + worked >= self._slice_seconds

    def yields_to(self, running: Place, priority: Priority) -> bool:
        """Whether what runs would yield at once to something of that priority."""
        session = running.session
        kept = running.promoted and not self.over(running)
        higher = priority.value < session.options.priority.value
        return higher and not kept and self._can(session)

    def reason(self, running: Place, waiting: Sequence[Place]) -> YieldReason | None:
        """Why what runs is to yield to something that waits; None where it is not to."""
        session = running.session
        if any(self.yields_to(running, each.session.options.priority) for each in waiting):
            return YieldReason.HIGHER_PRIORITY
        if not self.over(running) or not self._can(session):
            return None
        others = [place for place in waiting if place.session.owner != session.owner]
        stays = self._order.of([running, *others])[0] is running
        return None if stays else YieldReason.TIME_SLICE

    def may_yield(self, running: Place, waiting: Sequence[Place]) -> bool:
        """Whether what runs lets something that waits go first once its slice is over."""
        session = running.session
        mine = session.options.priority.value
        return session.about.pauses and any(
            theirs < mine or (theirs == mine and each.session.owner != session.owner)
            for each in waiting
            for theirs in [each.session.options.priority.value]
        )

    def _can(self, session: Session) -> bool:
        return session.state is SessionState.RUNNING and session.can_pause_work
