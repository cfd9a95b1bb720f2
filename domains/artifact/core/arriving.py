"""The file of an artifact that comes, before it is the store's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from domains.artifact.core.entries import Entry
from domains.artifact.core.quota import Quota, held_bytes
from domains.artifact.errors import DiskReserved, StorageUnavailable
from domains.artifact.ports import ArtifactFiles
from domains.artifact.types import Claim, StoredFile


@dataclass(frozen=True)
class Space:
    """What there is for a new file: of all that may be kept so many bytes are `held`, and
    `min_free_bytes` of the disk are left to others."""

    quota: Quota
    held_bytes: int
    min_free_bytes: int

    @classmethod
    def beside(
        cls, entries: Mapping[str, Entry], artifact_id: str, quota: Quota, min_free_bytes: int
    ) -> Space | None:
        """Beside what is kept; None where the artifact is, which needs none."""
        if artifact_id in entries:
            return None
        return cls(quota, held_bytes(entries.values()), min_free_bytes)

    def check(self, size_bytes: int, free_bytes: int) -> None:
        """Refuse what has no room.

        Raises:
            LargerThanQuota: It has more bytes than may be kept.
            DiskReserved: Too little of the disk is free.
        """
        self.quota.check(size_bytes, self.held_bytes)
        if free_bytes < self.min_free_bytes:
            raise DiskReserved(free_bytes, self.min_free_bytes)


async def take(
    files: ArtifactFiles,
    path: Path,
    artifact_id: str,
    claim: Claim,
    space: Space | None,
    make_room: Callable[[], Awaitable[None]],
) -> StoredFile:
    """It is the store's from here on, and nothing is left at `path`.

    Args:
        files: Where it goes.
        path: Where it is.
        artifact_id: Its hash.
        claim: For whom it is kept.
        space: What there is for it; None where the same content is kept.
        make_room: Called where the disk has none, before it is tried again.

    Raises:
        DomainError: As `ArtifactFiles.adopt` and `Space.check`; it is still there then.
        StorageUnavailable: It is not there any more.
    """
    try:
        return await asyncio.to_thread(_taken, files, path, artifact_id, claim, space)
    except DiskReserved:
        await make_room()
    return await asyncio.to_thread(_taken, files, path, artifact_id, claim, space)


def _taken(
    files: ArtifactFiles, path: Path, artifact_id: str, claim: Claim, space: Space | None
) -> StoredFile:
    """One trip to a thread for all of it."""
    if space is not None:
        space.check(_size_of(path), files.free_bytes())
    stored = files.adopt(path, artifact_id, claim)
    discard(path)
    return stored


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise StorageUnavailable from error


def discard(path: Path) -> None:
    """Delete it, where it was not moved away."""
    with contextlib.suppress(OSError):
        path.unlink()
