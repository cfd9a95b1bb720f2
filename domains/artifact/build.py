"""The artifact domain, put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.backends.thumbnail_folder import ThumbnailFolder
from domains.artifact.backends.upload_folder import UploadFolder
from domains.artifact.core import ArtifactStore, ArtifactUploads, Thumbnails
from domains.artifact.ports import Needed, Shrink
from domains.artifact.servicer import ArtifactServicer
from domains.clock import Clock
from domains.loops import Loop
from domains.uploads import Uploads

_TIDY_SECONDS = 5.0


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def artifact_quota_bytes(self) -> int: ...
    @property
    def artifact_min_free_bytes(self) -> int: ...
    @property
    def artifact_retention_seconds(self) -> float: ...


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it.

    `uploads` are those of every domain: a client asks for each of them in one place.
    """

    store: ArtifactStore
    uploads: Uploads
    receiving: ArtifactUploads
    thumbnails: Thumbnails
    servicer: ArtifactServicer
    loops: tuple[Loop, ...]

    async def start(self) -> None:
        """Find what is kept, and delete what an earlier server left unfinished."""
        await self.store.start()
        await self.receiving.start()
        await self.thumbnails.start()


def build(settings: Settings, *, shrink: Shrink, clock: Clock, needed: Needed = dict) -> Built:
    """The domain as `settings` describe it; nothing runs yet.

    Args:
        settings: What the operator chose.
        shrink: Makes small pictures of artifacts.
        clock: The time.
        needed: Artifacts that accepted work needs.
    """
    small = ThumbnailFolder(
        settings.data_dir / "thumbnails", min_free_bytes=settings.artifact_min_free_bytes
    )
    store = ArtifactStore(
        ArtifactFolder(settings.data_dir / "artifacts", small.remove),
        quota_bytes=settings.artifact_quota_bytes,
        min_free_bytes=settings.artifact_min_free_bytes,
        retention=timedelta(seconds=settings.artifact_retention_seconds),
        now=clock.wall,
        monotonic=clock.monotonic,
        needed=needed,
    )
    uploads = Uploads(clock)
    receiving = ArtifactUploads(
        uploads,
        UploadFolder(settings.data_dir / "uploads"),
        store,
        most_bytes=settings.artifact_quota_bytes,
    )
    loops = (
        Loop("expired artifacts", _TIDY_SECONDS, store.tidy),
        Loop("unfinished uploads", _TIDY_SECONDS, uploads.tidy),
    )
    thumbnails = Thumbnails(store, small, shrink)
    servicer = ArtifactServicer(store, receiving, uploads, thumbnails)
    return Built(store, uploads, receiving, thumbnails, servicer, loops)
