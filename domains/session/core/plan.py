"""What a call asks of sessions, and what that comes to once it has been resolved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domains.session.core.session import Session
from domains.session.types import Outcome, Phase, SessionKind, SessionOptions

Work = Callable[[Session], Awaitable[Outcome | None]]


@dataclass(frozen=True)
class SessionPlan:
    """What a session shall be and do.

    `work` is called when the session's turn comes; what it raises ends the session. To
    stop the session, and when its time is over, its coroutine is cancelled and must clean
    up and end; with `stop` that is called instead, and the work ends by itself, in time.
    `queue` is where the session waits, if not in its device's queue.
    """

    kind: SessionKind
    device_id: str
    expected_phases: tuple[Phase, ...]
    work: Work
    stop: Callable[[Session], None] | None = None
    model_id: str = ""
    seeds: tuple[int, ...] = ()
    steps: int = 0
    parent_session_id: str = ""
    queue: str = ""


@dataclass(frozen=True)
class SessionRequest:
    """A session that a call asks for.

    `digest` stands for the whole request: the same request_id with another digest is
    refused. `prepare` checks and resolves the request, and raises what forbids it; it is
    not asked when an earlier call started the session, since what the request named may
    be gone by now.
    """

    options: SessionOptions
    digest: bytes
    prepare: Callable[[], Awaitable[SessionPlan]]
