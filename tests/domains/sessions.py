"""Running what a domain asks for as a session, as its servicer does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from domains.clock import Clock
from domains.session.convert import SessionConverter, SessionStreams, Starters
from domains.session.convert.events import Reports
from domains.session.core.changes import SessionChanges
from domains.session.core.plan import SessionRequest
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.ports import ArtifactReader
from domains.session.types import Completed, SessionEvent


@dataclass
class Artifacts:
    """Artifacts in memory, read in small chunks."""

    content: dict[str, bytes] = field(default_factory=dict)

    async def read_of(
        self, owner: str, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncIterator[bytes]:
        data = self.content[artifact_id]
        for start in range(0, len(data), 4):
            yield data[start : start + 4]


def changes_of(clock: Clock) -> SessionChanges:
    """What sessions note their changes in."""
    return SessionChanges(clock, heartbeat_seconds=5, gone_kept=100)


def runner_of(sessions: Sessions, artifacts: ArtifactReader | None = None) -> SessionRunner:
    """Runs requests in those sessions."""
    reader = SessionReader(artifacts or Artifacts(), heartbeat_seconds=5, clock=Clock())
    return SessionRunner(sessions, reader)


def streams_of(sessions: Sessions, reports: Reports, starters: Starters) -> SessionStreams:
    """What a servicer is given, with no pictures to read back."""
    return SessionStreams(runner_of(sessions), SessionConverter(reports), starters)


def follow(sessions: Sessions, request: SessionRequest) -> AsyncGenerator[SessionEvent]:
    """The request's session, from its first event to its last."""
    return runner_of(sessions).run(request)


async def until_final(session: Session) -> None:
    """The session has ended, which is soon."""
    async with asyncio.timeout(30):
        while not session.state.final:
            change = session.log.change()
            if not session.state.final:
                await change.wait()


async def report_of(sessions: Sessions, request: SessionRequest) -> object:
    """What the request's session reports in the end."""
    events = [event.event async for event in follow(sessions, request)]
    assert isinstance(events[-1], Completed)
    return events[-1].report
