"""Going on with what an earlier server accepted and did not end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from domains import failpoints
from domains.clients import Caller, Role, calling
from domains.clock import Clock
from domains.errors import DomainError, Failure, Reason, Unavailable
from domains.session.core.plan import Decided, SessionRequest
from domains.session.core.retrying import MOST_LOST_TURNS
from domains.session.core.runner import turn_of
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.errors import Restarted
from domains.session.ports import FaultReporter
from domains.session.records import KeptMessage
from domains.session.types import Accepted, OnDisconnect
from domains.values import ModelContent

PATIENCE_SECONDS = 60.0
"""How long after its start a server waits for what sessions need, such as devices."""
RETURN_SECONDS = 60.0
"""How long a session that ends with its streams waits for one after a restart."""
_AT_ONCE = 64  # then whatever else the server has to do


class TakingUp:
    """Resolves sessions of an earlier server anew and lets them wait for their turns again.

    A session that its client wants to end with its streams has none now. It waits for one,
    which its request_id brings; where it has no request_id nobody could come back to it.

    Args:
        sessions: Where they are.
        again: The request that a kept message is.
        describe: What a client sees of an error.
        clock: The time.
    """

    def __init__(
        self,
        sessions: Sessions,
        again: Callable[[KeptMessage], SessionRequest],
        describe: FaultReporter,
        clock: Clock,
    ) -> None:
        self._sessions, self._again, self._describe = sessions, again, describe
        self._clock = clock
        self._patient_until = clock.monotonic() + PATIENCE_SECONDS
        self._awaited: dict[Session, float] = {}

    async def run(self) -> None:
        """Take up every one that has not been yet, in the order in which they were accepted;
        call it now and then, from when on domains can resolve requests."""
        unfinished, taken = self._sessions.unfinished, 0
        replaced = await self._replaced()
        while unfinished:
            session, message = unfinished[0]
            failpoints.reach("session.taking-up")
            try:
                failure = replaced.get(session.about.contents)
                failure = failure or await self._taken_up(session, message)
            except Unavailable:  # a device is looked for, or starts
                break
            unfinished.pop(0)
            if failure is not None:
                session.fail(failure)
            taken += 1
            if taken % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._look()

    async def _replaced(self) -> Mapping[tuple[ModelContent, ...], Failure]:
        """Why those fail whose models have other content now, by what they were accepted for.

        All are looked at before any is taken up: what is taken up may begin while others wait
        for the disk, though they were more urgent.
        """
        found: dict[tuple[ModelContent, ...], Failure | None] = {}
        for session, _ in tuple(self._sessions.unfinished):
            contents = session.about.contents
            if contents in found or session.state.final:
                continue
            try:
                await self._sessions.contents.check(session)
            except DomainError as error:
                found[contents] = self._describe(error)
            else:
                found[contents] = None
        return {contents: why for contents, why in found.items() if why is not None}

    async def _taken_up(self, session: Session, message: KeptMessage) -> Failure | None:
        """Why it cannot be taken up.

        Raises:
            Unavailable: It cannot be now.
        """
        if session.state.final:
            return None
        awaited = session.options.on_disconnect is OnDisconnect.CANCEL
        if awaited and not session.options.request_id:
            return Restarted().failure()
        if session.lost >= MOST_LOST_TURNS:
            return Restarted(lost_turns=session.lost).failure()
        try:
            request = replace(
                self._again(message), owner=session.owner, parent=session.about.parent
            )
            if request.again is None:
                return Restarted().failure()
            with calling(Caller(session.owner, Role.RUN)):  # whose pictures it names
                plan = await request.again(Decided(_seeds_of(session), session.model_id))
            if not session.state.final:  # it may have been cancelled meanwhile
                turn = turn_of(plan, self._sessions)
                self._sessions.take_up(session, plan, turn)
        except Exception as error:
            if isinstance(error, Unavailable) and self._clock.monotonic() < self._patient_until:
                raise
            return self._describe(error)
        if session.state.final:
            return None
        if session.lost:
            session.note_retry(Restarted().failure())
        if awaited:
            self._awaited[session] = self._clock.monotonic() + RETURN_SECONDS
        else:
            self._sessions.go_on(session)
        return None

    def _look(self) -> None:
        """Let those go on to which a stream has come, and end those that waited too long."""
        for session, until in tuple(self._awaited.items()):
            if session.followers and not session.state.final:
                self._sessions.go_on(session)
            elif self._clock.monotonic() >= until:
                session.request_cancel(Reason.CLIENT_DISCONNECTED)
            elif not session.state.final:
                continue
            del self._awaited[session]


def _seeds_of(session: Session) -> tuple[int, ...]:
    """Those that it was accepted with."""
    return next(
        (entry.seeds for entry in session.log.entries() if isinstance(entry, Accepted)), ()
    )
