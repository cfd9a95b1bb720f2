"""Whether work whose turn came to nothing, through no fault of its own, has another one."""

from __future__ import annotations

from domains.session.core.session import Session
from domains.session.errors import WorkerLost

MOST_LOST_TURNS = 2
"""Of one session; its work is at fault when so many end with a worker or a server."""


def starts_over(session: Session, error: WorkerLost) -> bool:
    """Whether it may once more after the loss of its worker, which had begun this turn: where
    that is safe, and not what is lost again."""
    safe = session.about.repeats and error.repeats and session.cancel_reason is None
    return safe and session.lost + 1 < MOST_LOST_TURNS


def goes_elsewhere(session: Session) -> bool:
    """Whether it may wait for another device because its own went out of use before a worker
    had its job; where it has several jobs, an earlier one may have begun."""
    begun = session.lost_turns > session.lost
    safe = (session.about.repeats or not begun) and session.cancel_reason is None
    return safe and session.placed_again() is not None
