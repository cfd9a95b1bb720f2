"""The artifact domain as a server has it, its small pictures made in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

from domains.artifact import build as artifact
from domains.clock import Clock
from domains.picture.backends.picture_folder import PictureFolder
from domains.picture.backends.preparing import make_thumbnail
from domains.picture.core import Pictures, ThumbnailMaking
from domains.session.core.sessions import Sessions
from server.errors import describe_failure
from tests.domains.sessions import changes_of
from tests.fakes.jobs import Listener


class InspectorHere:
    """Does the work of inspectors in this process; `jobs` counts it."""

    jobs = 0

    async def run(
        self, device_id: str, session_id: str, job: Any, *, remaining: float
    ) -> AsyncGenerator[Any]:
        self.jobs += 1
        yield make_thumbnail(job, Listener())

    def cancel(self, device_id: str, session_id: str) -> None:
        raise AssertionError("nobody asks for that")


def build(
    settings: artifact.Settings, *, clock: Clock, inspectors: InspectorHere | None = None
) -> artifact.Built:
    """As the composition builds it, over `settings`' folder."""
    built: artifact.Built
    files = PictureFolder(settings.data_dir / "pictures")

    sessions = Sessions(
        describe=describe_failure,
        queue_length=1,
        slice_seconds=30.0,
        retention=timedelta(seconds=60),
        kept=1,
        clock=clock,
        changes=changes_of(clock),
    )

    async def shrink(artifact_id: str, edge_pixels: int) -> Any:
        pictures = Pictures(built.store, sessions, inspectors or InspectorHere(), files)
        return await ThumbnailMaking(pictures, files).make(artifact_id, edge_pixels)

    built = artifact.build(settings, shrink=shrink, clock=clock)
    return built
