"""Artifact values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Artifact:
    """Bytes that are kept: `artifact_id` is their SHA-256 in lower-case hexadecimal."""

    artifact_id: str
    size_bytes: int
    media_type: str
    create_time: datetime
    session_ids: tuple[str, ...] = ()
    """The sessions that made these bytes, first to last; none for an upload."""
    expire_time: datetime | None = None
    """None: kept for good."""


@dataclass(frozen=True)
class ArtifactUsage:
    """Bytes kept in all, and the most that are kept."""

    used_bytes: int
    quota_bytes: int
