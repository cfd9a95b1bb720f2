"""Sessions on a clock that tests move, with artifacts in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from domains.session.core.session import Session
from domains.session.core.sessions import SessionPlan, Sessions
from domains.session.types import ImageResult, Phase, SessionKind, SessionOptions
from domains.values import ImageFormat
from server.errors import describe_failure


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    moment: datetime = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@dataclass
class Artifacts:
    """Artifacts in memory, read in small chunks."""

    content: dict[str, bytes] = field(default_factory=dict)

    async def read(
        self, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncIterator[bytes]:
        data = self.content[artifact_id]
        for start in range(0, len(data), 4):
            yield data[start : start + 4]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def artifacts() -> Artifacts:
    return Artifacts({"a" * 64: b"0123456789"})


@pytest.fixture
async def sessions(clock: Clock, artifacts: Artifacts) -> AsyncIterator[Sessions]:
    """A registry with room for three waiting sessions per device."""
    registry = Sessions(
        artifacts,
        describe=describe_failure,
        queue_length=3,
        retention=timedelta(seconds=60),
        kept=5,
        heartbeat_seconds=0.05,
        now=clock,
    )
    yield registry
    await registry.stop(0)


def plan(
    options: SessionOptions | None = None, *, digest: bytes = b"", device_id: str = "cpu:0"
) -> SessionPlan:
    """A generation of two pictures with two steps each."""
    return SessionPlan(
        kind=SessionKind.GENERATION,
        options=options or SessionOptions(),
        digest=digest,
        device_id=device_id,
        model_id="model",
        expected_phases=(Phase.QUEUED, Phase.DENOISING),
        seeds=(1, 2),
        steps=2,
    )


def picture(index: int = 0) -> ImageResult:
    """A finished picture whose bytes the artifacts hold."""
    return ImageResult(index, 1, "a" * 64, ImageFormat.PNG, 256, 256, 10)


def finish(session: Session) -> None:
    """Complete a session as its work would."""
    session.complete(degradations=(), timings={}, generation=None)
