"""The artifact domain, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import ArtifactStore
from domains.artifact.servicer import ArtifactServicer


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def artifact_quota_bytes(self) -> int: ...
    @property
    def artifact_retention_seconds(self) -> float: ...


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it."""

    store: ArtifactStore
    servicer: ArtifactServicer


def build(settings: Settings, *, now: Callable[[], datetime]) -> Built:
    """The domain as `settings` describe it; nothing runs yet."""
    store = ArtifactStore(
        ArtifactFolder(settings.data_dir / "artifacts"),
        quota_bytes=settings.artifact_quota_bytes,
        retention=timedelta(seconds=settings.artifact_retention_seconds),
        now=now,
    )
    return Built(store, ArtifactServicer(store))
