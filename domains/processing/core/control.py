"""Pausing, resuming, cancelling, changing and deleting sessions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.processing.core.filters import broken_filter, broken_reason
from domains.processing.core.lists import shown
from domains.processing.errors import RunsToItsEnd, StateConflict
from domains.session.core.options import check_options
from domains.session.core.sessions import Sessions
from domains.session.types import SessionState, WorkOptions
from domains.session.views import SessionFilter, SessionSnapshot, Viewer

# By the contract's names of what UpdateSession can change.
_CHANGEABLE = {"priority": "priority", "tags": "tags", "retention": "retention_seconds"}
_WAITING = (SessionState.QUEUED, SessionState.PAUSED)


class SessionControl:
    """Changes what becomes of sessions, for callers who may see them.

    Args:
        sessions: The registry.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def pause(self, session_id: str, viewer: Viewer, reason_text: str = "") -> SessionSnapshot:
        """Stop a session so that it can be resumed; one that is paused stays as it is.

        Raises:
            SessionNotFound: There is none of that id for this caller.
            StateConflict: It is final or being cancelled.
            RunsToItsEnd: It runs, and its work cannot be paused then.
            InvalidArgument: TEXT_TOO_LONG or TEXT_INVALID for the reason.
        """
        InvalidArgument.check(broken_reason(reason_text))
        session = self._sessions.get(session_id, viewer)
        if session.state in (SessionState.PAUSING, SessionState.PAUSED):
            return shown(viewer, session)
        if session.state is SessionState.RUNNING and not session.can_pause_work:
            raise RunsToItsEnd(session_id, session.kind)
        if session.state not in (SessionState.QUEUED, SessionState.RUNNING):
            raise StateConflict(session_id, session.state, "paused")
        self._sessions.pause(session, reason_text, viewer.name)
        return shown(viewer, session)

    def resume(self, session_id: str, viewer: Viewer) -> SessionSnapshot:
        """Go on with a paused session; it waits for its device first.

        Raises:
            SessionNotFound: There is none of that id for this caller.
            StateConflict: It is not paused.
        """
        session = self._sessions.get(session_id, viewer)
        if session.state is not SessionState.PAUSED:
            raise StateConflict(session_id, session.state, "resumed")
        self._sessions.resume(session, viewer.name)
        return shown(viewer, session)

    def cancel(self, session_id: str, viewer: Viewer, reason_text: str = "") -> SessionSnapshot:
        """Stop a session for good; one that is final stays as it is.

        Raises:
            SessionNotFound: There is none of that id for this caller.
            InvalidArgument: TEXT_TOO_LONG or TEXT_INVALID for the reason.
        """
        InvalidArgument.check(broken_reason(reason_text))
        session = self._sessions.get(session_id, viewer)
        session.request_cancel(Reason.CANCELLED_BY_CLIENT, reason_text, viewer.name)
        return shown(viewer, session)

    def cancel_all(self, wanted: SessionFilter, viewer: Viewer, reason_text: str = "") -> int:
        """Stop every session that is as wanted and that the caller may see.

        Returns:
            How many were asked to stop that nobody had asked before.

        Raises:
            InvalidArgument: No filter at all, or one that breaks a rule; likewise the reason.
        """
        if wanted.empty:
            rule = "Must have at least one of its fields set."
            missing = FieldViolation("filter", Reason.REQUIRED_FIELD_MISSING, rule)
            raise InvalidArgument.of(missing)
        InvalidArgument.check(*broken_filter(wanted), broken_reason(reason_text))
        chosen = [
            session
            for session in self._sessions.all()
            if not session.state.final
            and session.cancel_reason is None
            and viewer.sees(session.owner)
            and wanted.accepts(session)
        ]
        for session in chosen:
            session.request_cancel(Reason.CANCELLED_BY_CLIENT, reason_text, viewer.name)
        return len(chosen)

    def update(
        self,
        session_id: str,
        viewer: Viewer,
        options: WorkOptions,
        update_fields: Collection[str],
    ) -> SessionSnapshot:
        """Change a session's priority while it waits, its tags, how long it is kept.

        Args:
            session_id: Which.
            viewer: Who asks.
            options: As they shall be.
            update_fields: Which of them change: `priority`, `tags`, `retention`.

        Raises:
            SessionNotFound: There is none of that id for this caller.
            InvalidArgument: FIELDS_CONFLICT for a field that cannot be changed,
                REQUIRED_FIELD_MISSING for no field at all, or a rule is broken.
            StateConflict: The priority of a session that waits no more.
        """
        broken = _broken_fields(update_fields), *check_options(options, "options")
        InvalidArgument.check(*broken)
        changed = {
            _CHANGEABLE[field]: getattr(options, _CHANGEABLE[field]) for field in update_fields
        }
        session = self._sessions.get(session_id, viewer)
        if "priority" in update_fields and session.state not in _WAITING:
            raise StateConflict(session_id, session.state, "given another priority")
        self._sessions.update(session, replace(session.options, **changed))
        return shown(viewer, session)

    async def delete(self, session_id: str, viewer: Viewer) -> None:
        """Forget a final session now, and for the next server as well.

        Raises:
            SessionNotFound: There is none of that id for this caller.
            StateConflict: It is not final.
        """
        session = self._sessions.get(session_id, viewer)
        if not session.state.final:
            raise StateConflict(session_id, session.state, "deleted")
        self._sessions.forget(session)
        await self._sessions.settled(session)


def _broken_fields(update_fields: Collection[str]) -> FieldViolation | None:
    rule = f"Must name some of {', '.join(_CHANGEABLE)}."
    if not update_fields:
        return FieldViolation("update_fields", Reason.REQUIRED_FIELD_MISSING, rule)
    if not set(update_fields) <= set(_CHANGEABLE):
        return FieldViolation("update_fields", Reason.FIELDS_CONFLICT, rule)
    return None
