"""Pictures as a server has them, over folders of a test's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import ArtifactStore
from domains.clock import Clock
from domains.picture.backends.picture_folder import PictureFolder
from domains.picture.core import Pictures
from domains.session.core.sessions import Sessions
from domains.session.jobs import JobRunner
from server.errors import describe_failure
from tests.domains.sessions import changes_of


@dataclass
class Stand:
    """Pictures, where they come from, and the `folder` that their files lie in meanwhile."""

    pictures: Pictures
    artifacts: ArtifactStore
    sessions: Sessions
    folder: Path


async def stand_at(folder: Path, inspectors: JobRunner) -> Stand:
    """Pictures that these inspectors decode, started."""
    clock = Clock()
    sessions = Sessions(
        describe=describe_failure,
        queue_length=8,
        slice_seconds=30.0,
        retention=timedelta(seconds=60),
        kept=100,
        clock=clock,
        changes=changes_of(clock),
    )
    artifacts = ArtifactStore(
        ArtifactFolder(folder / "artifacts"),
        quota_bytes=1 << 30,
        retention=timedelta(hours=1),
        now=clock.wall,
    )
    found = Stand(
        Pictures(artifacts, sessions, inspectors, PictureFolder(folder / "pictures")),
        artifacts,
        sessions,
        folder / "pictures",
    )
    await found.pictures.start()
    return found
