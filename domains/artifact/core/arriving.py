"""The file of an artifact that comes, before it is the store's."""

from __future__ import annotations

import contextlib
from pathlib import Path

from domains.artifact.errors import StorageUnavailable
from domains.artifact.ports import ArtifactFiles
from domains.artifact.types import Claim, StoredFile


def size_of(path: Path) -> int:
    """Its bytes.

    Raises:
        StorageUnavailable: It is not there any more.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise StorageUnavailable from error


def taken(files: ArtifactFiles, path: Path, artifact_id: str, claim: Claim) -> StoredFile:
    """It is the store's from here on, and nothing is left at `path`: one trip to a thread.

    Raises:
        DomainError: As `ArtifactFiles.adopt`; it is still there then.
    """
    stored = files.adopt(path, artifact_id, claim)
    discard(path)
    return stored


def discard(path: Path) -> None:
    """Delete it, where it was not moved away."""
    with contextlib.suppress(OSError):
        path.unlink()
