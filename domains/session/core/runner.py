"""The one way in which work becomes a session: found or opened, run in its turn, followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from domains.errors import Cancelled, Reason
from domains.session.core.entries import raise_for_end
from domains.session.core.places import Turn
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.reading import SessionReader
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.errors import SessionTimedOut, TimeLimit
from domains.session.jobs import WorkPaused
from domains.session.types import (
    ENTRIES,
    Accepted,
    Delivery,
    OnDisconnect,
    Outcome,
    SessionEvent,
    SessionState,
)


def _never() -> bool:
    return False


class SessionRunner:
    """Runs what calls ask for as sessions, and streams their events.

    Args:
        sessions: Where sessions are opened and wait.
        reader: Reads their events.
    """

    def __init__(self, sessions: Sessions, reader: SessionReader) -> None:
        self._sessions = sessions
        self._reader = reader

    async def run(
        self,
        request: SessionRequest,
        delivery: Delivery = ENTRIES,
        *,
        expired: Callable[[], bool] = _never,
    ) -> AsyncGenerator[SessionEvent]:
        """Start the session, or find the one that its request_id started; follow it.

        Yields the session's events from the first to the last; then raises what a failed
        or cancelled session ended with. When the last call that follows a session is
        dropped, the session is cancelled, unless its options say otherwise.

        Args:
            request: What the call asks for.
            delivery: How the events come to the call.
            expired: Whether the call is dropped because its own deadline passed.

        Raises:
            RequestIdReused: The request_id belongs to another request.
            DomainError: The request cannot be prepared, the queue is full, the disk does not
                take the session, the server is shutting down, the session failed or was
                cancelled.
        """
        session, existing = await self._find_or_open(request)
        events = self._reader.events(session, delivery=delivery)
        session.followers += 1
        try:
            await self._sessions.accepted(session)
            async with aclosing(events):
                async for event in events:
                    if existing and isinstance(event.event, Accepted):
                        event = replace(event, existing=True)
                    yield event
        finally:
            session.followers -= 1
            left = not session.followers and not session.suspended
            if left and session.options.on_disconnect is OnDisconnect.CANCEL:
                reason = Reason.DEADLINE_EXPIRED if expired() else Reason.CLIENT_DISCONNECTED
                session.request_cancel(reason)
        raise_for_end(session)

    async def begin(self, request: SessionRequest) -> Session:
        """Start the session, or find the one that its request_id started; nobody follows it:
        only its end and a cancellation end it. It is on disk when this returns.

        Raises:
            DomainError: As `run`, but for what becomes of the session.
        """
        session, _ = await self._find_or_open(request)
        await self._sessions.accepted(session)
        return session

    async def _find_or_open(self, request: SessionRequest) -> tuple[Session, bool]:
        """The session, and whether an earlier call had opened it."""
        if known := self._sessions.known(request):
            return known, True
        with self._sessions.needed.held(request.owner, request.named):
            plan = await request.prepare()
            # The same request may have come twice at once: the first to get here opened it.
            if known := self._sessions.known(request):
                return known, True
            turn = turn_of(plan, self._sessions)
            return self._sessions.open(plan, turn, request), False


def turn_of(plan: SessionPlan, sessions: Sessions) -> Turn:
    """What is done when the turn of a session of that plan comes."""
    return partial(_take_turn, plan, sessions)


async def _begun(plan: SessionPlan, sessions: Sessions, session: Session) -> Outcome | None:
    """The work, unless it was to stop before its first step, when nothing of it could hear, or
    is not what was accepted any more."""
    await sessions.contents.check(session)
    if session.cancel_reason is not None:
        raise Cancelled("The session was cancelled before its work began.")
    if session.state is SessionState.PAUSING or session.yielding is not None:
        raise WorkPaused(session.done.kept_steps)
    return await plan.work(session)


async def _take_turn(plan: SessionPlan, sessions: Sessions, session: Session) -> None:
    """The session's turn; its queue ends the session with what this raises."""
    work = asyncio.ensure_future(_begun(plan, sessions, session))
    pause = None if plan.pause is None else partial(plan.pause, session)
    if plan.stop is None:
        session.start(work.cancel, pause)
        limit = asyncio.timeout(session.run_left())
    else:
        session.start(partial(plan.stop, session), pause)
        limit = asyncio.timeout(None)
    try:
        async with limit:
            outcome = await work
    except TimeoutError:
        if not limit.expired():
            raise
        seconds = session.options.run_timeout_seconds
        raise SessionTimedOut(session.session_id, TimeLimit.RUN, seconds) from None
    if session.effort is not None and outcome is not None and outcome.teaches:
        sessions.speeds.learn(session.device_id, session.effort, outcome.timings)
    session.complete(outcome)
