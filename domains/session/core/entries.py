"""What the first and the last entry of a session's log say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domains.errors import Reason
from domains.session.core.times import Spell
from domains.session.errors import SessionFailed, cancellation
from domains.session.types import Accepted, Cancelled, Completed, Failed, Outcome, Phase

if TYPE_CHECKING:
    from domains.session.core.plan import SessionPlan
    from domains.session.core.session import Session


def accepted(session: Session, plan: SessionPlan) -> Accepted:
    """It is in its queue."""
    return Accepted(
        session.kind,
        session.queue_position,
        plan.expected_phases,
        plan.seeds,
        plan.steps,
        session.times.shown_in(session.wait_left()),
        session.estimated_end_time,
        session.placement,
        plan.degradations,
    )


def completed(session: Session, outcome: Outcome) -> Completed:
    """It worked, and came to that."""
    times = session.times
    return Completed(
        session.images,
        outcome.degradations,
        {Phase.QUEUED: times.spent(Spell.WAITING), **outcome.timings},
        times.total,
        outcome.report,
        pause_seconds=times.spent(Spell.PAUSED),
        peak_memory=session.peak_memory,
        placement=session.placement,
    )


def cancelled(session: Session, reason_text: str, asked_by: str) -> Cancelled:
    """It was stopped; texts count where somebody gave a reason."""
    reason = session.cancel_reason
    return Cancelled(
        reason or Reason.CANCELLED_BY_CLIENT,
        session.phase,
        session.images,
        reason_text if reason else "",
        asked_by if reason else "",
    )


def raise_for_end(session: Session) -> None:
    """Raise what a failed or cancelled session ended with; nothing otherwise."""
    end = session.log.terminal
    if isinstance(end, Failed):
        raise SessionFailed(end.failure)
    if isinstance(end, Cancelled):
        raise cancellation(session.session_id, end)
