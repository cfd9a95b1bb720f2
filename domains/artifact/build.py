"""The artifact domain, put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import ArtifactStore
from domains.artifact.servicer import ArtifactServicer
from domains.clock import Clock
from domains.loops import Loop

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
    """What other domains and the server need of it."""

    store: ArtifactStore
    servicer: ArtifactServicer
    loops: tuple[Loop, ...]


def build(settings: Settings, *, clock: Clock) -> Built:
    """The domain as `settings` describe it; nothing runs yet."""
    store = ArtifactStore(
        ArtifactFolder(settings.data_dir / "artifacts"),
        quota_bytes=settings.artifact_quota_bytes,
        min_free_bytes=settings.artifact_min_free_bytes,
        retention=timedelta(seconds=settings.artifact_retention_seconds),
        now=clock.wall,
        monotonic=clock.monotonic,
    )
    tidying = Loop("expired artifacts", _TIDY_SECONDS, store.tidy)
    return Built(store, ArtifactServicer(store), (tidying,))
