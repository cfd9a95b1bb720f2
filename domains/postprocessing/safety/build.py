"""Safety policies and checks, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from domains.postprocessing.safety.core.store import PolicyStore
from domains.postprocessing.safety.servicer import SafetyParts
from domains.records import Records
from domains.session import build as session_build
from domains.session.core.sessions import Sessions

__all__ = ["Kept", "build"]


@dataclass(frozen=True)
class Kept:
    """What outlives the server: every version of every policy, and which one is the default."""

    versions: Records
    default: Records


def build(
    session: session_build.Built, kept: Kept, *, now: Callable[[], datetime]
) -> SafetyParts:
    """Safety over sessions; the store is to recall what an earlier server kept.

    Args:
        session: Where checks wait, and what runs them.
        kept: What outlives the server.
        now: The time.
    """
    store = PolicyStore(
        kept.versions, kept.default, lambda key: _user_of(session.sessions, key), now
    )
    return SafetyParts(store)


def _user_of(sessions: Sessions, key: str) -> str:
    """The id of a session that has not ended and goes by a policy, if there is one."""
    for each in sessions.all():
        if key in each.about.policies and not each.state.final:
            return each.session_id
    return ""
