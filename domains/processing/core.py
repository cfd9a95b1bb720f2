"""Listing, cancelling and deleting sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domains import checks
from domains.errors import FieldViolation, InvalidArgument, Reason, Unimplemented
from domains.limits import LIMITS
from domains.paging import Page, paginate
from domains.processing.errors import StateConflict
from domains.processing.types import ControlAction, SessionFilter
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import SessionSnapshot


class SessionControl:
    """Lists sessions of every kind, and cancels and deletes them.

    Args:
        sessions: The registry.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def list(
        self, wanted: SessionFilter, *, page_size: int, page_token: str
    ) -> Page[SessionSnapshot]:
        """Sessions, newest first.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE, TOO_MANY_ELEMENTS,
                TEXT_TOO_LONG, TEXT_INVALID or NAME_INVALID.
        """
        InvalidArgument.check(*_broken(wanted))
        newest_first = reversed(self._sessions.all())
        matching: Sequence[SessionSnapshot] = [
            session.snapshot() for session in newest_first if _accepts(wanted, session)
        ]
        return paginate(
            matching, page_size=page_size, page_token=page_token, scope=repr(wanted)
        )

    def control(self, session_id: str, action: ControlAction | None) -> SessionSnapshot:
        """Cancel a session; cancelling a final one changes nothing.

        Raises:
            InvalidArgument: No action is named, or one that only batches have.
            SessionNotFound: There is none of that id.
            StateConflict: The session is final and cannot be paused or resumed.
            Unimplemented: Pausing and resuming are not built yet.
        """
        session = self._sessions.get(session_id)
        if action is None or action is ControlAction.RETRY_FAILED:
            rule = "Must be PAUSE, RESUME or CANCEL."
            raise InvalidArgument.of(FieldViolation("action", Reason.ENUM_VALUE_UNKNOWN, rule))
        if action is ControlAction.CANCEL:
            session.request_cancel(Reason.CANCELLED_BY_CLIENT)
            return session.snapshot()
        if session.state.final:
            raise StateConflict(session_id, session.state, f"{action.value}d")
        raise Unimplemented(f"This version cannot {action.value} a session.")

    def delete(self, session_id: str) -> None:
        """Forget a final session now.

        Raises:
            SessionNotFound: There is none of that id.
            StateConflict: It is not final.
        """
        session = self._sessions.get(session_id)
        if not session.state.final:
            raise StateConflict(session_id, session.state, "deleted")
        self._sessions.forget(session)


def _broken(wanted: SessionFilter) -> Iterator[FieldViolation | None]:
    yield from checks.lines("tags", wanted.tags, LIMITS["ListSessionsRequest.tags"])
    if wanted.device_id:
        yield checks.device_id("device_id", wanted.device_id)
    if wanted.parent_session_id:
        yield checks.name("parent_session_id", wanted.parent_session_id)


def _accepts(wanted: SessionFilter, session: Session) -> bool:
    return (
        (wanted.kind is None or session.kind is wanted.kind)
        and (not wanted.states or session.state in wanted.states)
        and (not wanted.device_id or session.device_id == wanted.device_id)
        and set(wanted.tags) <= set(session.options.tags)
        and session.parent_session_id == wanted.parent_session_id
    )
