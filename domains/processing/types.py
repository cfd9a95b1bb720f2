"""What a client can ask about sessions of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from domains.session.types import SessionKind, SessionState


class ControlAction(Enum):
    """What a client can do to a session."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY_FAILED = "retry-failed"


@dataclass(frozen=True)
class SessionFilter:
    """Which sessions to list; everything that is set must hold."""

    kind: SessionKind | None = None
    states: tuple[SessionState, ...] = ()
    device_id: str = ""
    tags: tuple[str, ...] = ()
    parent_session_id: str = ""
