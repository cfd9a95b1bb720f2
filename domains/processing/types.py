"""What a client can ask about sessions of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domains.session.types import Priority, SessionKind, SessionState


@dataclass(frozen=True)
class SessionFilter:
    """Which sessions; everything that is set must hold."""

    kinds: frozenset[SessionKind] = frozenset()
    states: frozenset[SessionState] = frozenset()
    device_id: str = ""
    tags: tuple[str, ...] = ()
    parent_session_id: str = ""
    owner: str = ""
    priority: Priority | None = None
    model_id: str = ""
    created_after: datetime | None = None
    created_before: datetime | None = None
