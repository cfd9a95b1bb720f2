"""What only a call could set going again, once the server takes no calls any more."""

from __future__ import annotations

from domains.session.core.sessions import Sessions
from domains.session.types import SessionState


class Draining:
    """While the server lets open calls end: those that follow a paused session wait in vain,
    since nobody can resume it here. It is ended as the server's end would end it.

    Args:
        sessions: All of them.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._begun = False

    def begin(self) -> None:
        """No call comes any more."""
        self._begun = True
        self._end_paused()

    async def look(self) -> None:
        """Once more, for what has come to its pause since; to be called twice a second."""
        if self._begun:
            self._end_paused()

    def _end_paused(self) -> None:
        for session in self._sessions.all():
            if session.state is SessionState.PAUSED and session.followers:
                self._sessions.end_with_server(session)
