"""Sessions on a clock that tests move, with artifacts in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from domains.session.core.changes import SessionChanges
from domains.session.core.places import Turn
from domains.session.core.plan import SessionPlan, SessionRequest, Work
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import (
    ImageResult,
    Phase,
    SessionEvent,
    SessionKind,
    SessionState,
    WorkOptions,
)
from domains.values import ImageFileFormat
from server.errors import describe_failure
from tests.clocks import SteeredTime
from tests.domains.session.servers import Disk, Server
from tests.domains.sessions import Artifacts


@pytest.fixture
def clock() -> SteeredTime:
    return SteeredTime()


@pytest.fixture
def artifacts() -> Artifacts:
    return Artifacts({"a" * 64: b"0123456789"})


def registry(
    clock: SteeredTime, queue_length: int, *, heartbeat: float = 0.05, kept: int = 5
) -> Sessions:
    """A registry with room for so many waiting sessions per device."""
    return Sessions(
        describe=describe_failure,
        queue_length=queue_length,
        slice_seconds=30.0,
        retention=timedelta(seconds=60),
        kept=kept,
        changes=SessionChanges(clock.clock, heartbeat_seconds=heartbeat, gone_kept=kept),
        clock=clock.clock,
    )


@pytest.fixture
async def sessions(clock: SteeredTime) -> AsyncIterator[Sessions]:
    """A registry with room for three waiting sessions per device."""
    made = registry(clock, 3)
    yield made
    await made.stop(0)


@pytest.fixture
async def roomy(clock: SteeredTime) -> AsyncIterator[Sessions]:
    """A registry with room for many."""
    made = registry(clock, 30)
    yield made
    await made.stop(0)


@pytest.fixture
def reader(clock: SteeredTime, artifacts: Artifacts) -> SessionReader:
    return SessionReader(artifacts, heartbeat_seconds=0.05, clock=clock.clock)


@pytest.fixture
def runner(sessions: Sessions, reader: SessionReader) -> SessionRunner:
    return SessionRunner(sessions, reader)


async def nothing(session: Session) -> None:
    """Work that is done at once."""


def plan(device_id: str = "cpu:0", work: Work = nothing) -> SessionPlan:
    """A generation of two pictures with two steps each."""
    return SessionPlan(
        kind=SessionKind.GENERATION,
        device_id=device_id,
        model_id="model",
        expected_phases=(Phase.QUEUED, Phase.DENOISING),
        work=work,
        seeds=(1, 2),
        steps=2,
        total_steps=4,
    )


def submit(
    sessions: Sessions,
    turn: Turn,
    options: WorkOptions | None = None,
    *,
    digest: bytes = b"",
    device_id: str = "cpu:0",
    owner: str = "default",
) -> Session:
    """A session that does in its turn what it is told here."""
    options = options or WorkOptions()
    request = SessionRequest(options, digest, unprepared, owner)
    return sessions.open(plan(device_id), turn, request)


async def unprepared() -> SessionPlan:
    """What a session that is opened in a test has no need of."""
    raise AssertionError("it is open already")


def asked(
    work: Work,
    options: WorkOptions | None = None,
    *,
    digest: bytes = b"",
    stop: Callable[[Session], None] | None = None,
    pause: Callable[[Session], None] | None = None,
    owner: str = "default",
) -> SessionRequest:
    """What a call asks for whose session does that work."""

    async def prepare() -> SessionPlan:
        return replace(
            plan(work=work), seeds=(), steps=0, total_steps=0, stop=stop, pause=pause
        )

    return SessionRequest(options or WorkOptions(), digest, prepare, owner)


def picture(index: int = 0) -> ImageResult:
    """A finished picture whose bytes the artifacts hold."""
    return ImageResult(index, 1, "a" * 64, ImageFileFormat.PNG, 256, 256, 10)


def finish(session: Session) -> None:
    """Complete a session as its work would."""
    session.complete()


async def idle(session: Session) -> None:
    """Work that starts and does nothing by itself."""
    session.start(lambda: None)


async def started(sessions: Sessions, options: WorkOptions | None = None) -> Session:
    """A session that runs and does nothing by itself."""
    session = submit(sessions, idle, options)
    await until_started(session)
    return session


async def until_started(session: Session) -> None:
    """Its turn has come."""
    async with asyncio.timeout(30):
        while session.state is SessionState.QUEUED:
            await session.log.change().wait()


async def collect(events: AsyncIterator[SessionEvent]) -> list[SessionEvent]:
    """All of them, soon."""
    async with asyncio.timeout(30):
        return [event async for event in events]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def servers(disk: Disk, clock: SteeredTime) -> AsyncIterator[Callable[[], Server]]:
    """Starts a server over that disk; the one before it is simply gone."""
    started: list[Server] = []

    def start() -> Server:
        started.append(Server(disk, clock))
        return started[-1]

    yield start
    for server in started:
        await server.sessions.stop(0)
