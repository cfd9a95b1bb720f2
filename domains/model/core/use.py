"""Which sessions work with a model: whoever takes it away waits for them, or is refused."""

from __future__ import annotations

from collections.abc import Iterable

from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import SessionKind, SessionState

_WAITING = (SessionState.QUEUED,)
_PAUSED = (SessionState.PAUSED,)
_WORKING = (SessionState.RUNNING, SessionState.PAUSING, SessionState.CANCELLING)
# What takes a model away is no use of it.
_TAKING_AWAY = (SessionKind.MODEL_UNLOAD,)


class ModelUse:
    """Knows who uses a model.

    Args:
        sessions: All work there is.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def running(self, model_id: str, device_id: str = "") -> list[Session]:
        """Sessions that work with the model now, on one device where that is named."""
        return self._with(model_id, device_id, _WORKING)

    def due(self, model_id: str, device_id: str = "") -> list[Session]:
        """Sessions that work with it now or wait to; a paused one comes back later."""
        return self._with(model_id, device_id, (*_WAITING, *_WORKING))

    def open(self, model_id: str) -> list[Session]:
        """Sessions that are not over and work with it sooner or later, paused ones too."""
        return self._with(model_id, "", (*_WAITING, *_WORKING, *_PAUSED))

    async def ended(self, sessions: Iterable[Session]) -> None:
        """Return when none of these waits or works any more."""
        for session in sessions:
            while session.state in (*_WAITING, *_WORKING):
                change = session.log.change()
                if session.state not in (*_WAITING, *_WORKING):
                    break
                await change.wait()

    def _with(
        self, model_id: str, device_id: str, states: tuple[SessionState, ...]
    ) -> list[Session]:
        return [
            session
            for session in self._sessions.all()
            if model_id in (session.model_id, *session.about.companion_ids)
            and session.state in states
            and session.kind not in _TAKING_AWAY
            and device_id in ("", session.device_id)
        ]
