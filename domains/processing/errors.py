"""Errors of controlling sessions."""

from __future__ import annotations

from domains.errors import FailedPrecondition, Reason
from domains.session.types import SessionKind, SessionState


class StateConflict(FailedPrecondition):
    """The session's state does not allow what was asked."""

    def __init__(self, session_id: str, state: SessionState, wanted: str) -> None:
        super().__init__(
            f"A session that is {state.value} cannot be {wanted}.",
            reason=Reason.STATE_CONFLICT,
            metadata={"session_id": session_id, "state": state.value},
        )


class RunsToItsEnd(FailedPrecondition):
    """The session's work has nothing to go on from once it has begun."""

    def __init__(self, session_id: str, kind: SessionKind) -> None:
        super().__init__(
            f"A session of the kind {kind.value} cannot be paused while it runs; cancel it, or"
            " let it end.",
            reason=Reason.STATE_CONFLICT,
            metadata={
                "session_id": session_id,
                "state": SessionState.RUNNING.value,
                "kind": kind.value,
            },
        )
