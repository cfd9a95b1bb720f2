"""Errors of controlling sessions."""

from __future__ import annotations

from domains.errors import FailedPrecondition, Reason
from domains.session.types import SessionState


class StateConflict(FailedPrecondition):
    """The session's state does not allow what was asked."""

    def __init__(self, session_id: str, state: SessionState, wanted: str) -> None:
        super().__init__(
            f"A session that is {state.value} cannot be {wanted}.",
            reason=Reason.STATE_CONFLICT,
            metadata={"session_id": session_id, "state": state.value},
        )
