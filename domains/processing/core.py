"""Listing, cancelling and deleting sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domains import checks
from domains.errors import (
    DomainError,
    FieldViolation,
    InvalidArgument,
    Reason,
    Unimplemented,
)
from domains.limits import LIMITS
from domains.paging import Page, paginate
from domains.processing.errors import StateConflict
from domains.processing.types import SessionFilter
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

    def cancel(self, session_id: str) -> SessionSnapshot:
        """Stop a session for good; one that is final stays as it is.

        Raises:
            SessionNotFound: There is none of that id.
        """
        session = self._sessions.get(session_id)
        session.request_cancel(Reason.CANCELLED_BY_CLIENT)
        return session.snapshot()

    def pause(self, session_id: str) -> SessionSnapshot:
        """Stop a session between two steps, to be resumed.

        Raises:
            SessionNotFound: There is none of that id.
            StateConflict: It is final.
            Unimplemented: Not built yet.
        """
        raise self._unbuilt(session_id, "paused")

    def resume(self, session_id: str) -> SessionSnapshot:
        """Go on with a paused session.

        Raises:
            SessionNotFound: There is none of that id.
            StateConflict: It is final.
            Unimplemented: Not built yet.
        """
        raise self._unbuilt(session_id, "resumed")

    def _unbuilt(self, session_id: str, wanted: str) -> DomainError:
        session = self._sessions.get(session_id)
        if session.state.final:
            return StateConflict(session_id, session.state, wanted)
        return Unimplemented(f"In this version no session can be {wanted}.")

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
    yield from checks.lines("filter.tags", wanted.tags, LIMITS["SessionFilter.tags"])
    if wanted.device_id:
        yield checks.device_id("filter.device_id", wanted.device_id)
    for field in ("parent_session_id", "owner", "model_id"):
        if getattr(wanted, field):
            yield checks.name(f"filter.{field}", getattr(wanted, field))


def _accepts(wanted: SessionFilter, session: Session) -> bool:
    return (
        (not wanted.kinds or session.kind in wanted.kinds)
        and (not wanted.states or session.state in wanted.states)
        and (not wanted.device_id or session.device_id == wanted.device_id)
        and set(wanted.tags) <= set(session.options.tags)
        and session.parent_session_id == wanted.parent_session_id
        and wanted.owner in ("", session.client)
        and wanted.priority in (None, session.options.priority)
        and wanted.model_id in ("", session.model_id)
        and (wanted.created_after is None or session.create_time >= wanted.created_after)
        and (wanted.created_before is None or session.create_time < wanted.created_before)
    )
