"""Which artifacts are kept: within a quota, the least recently used going first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from domains import checks
from domains.artifact.errors import (
    ArtifactBeingRead,
    ArtifactDamaged,
    ArtifactNotFound,
    LargerThanQuota,
    OffsetPastEnd,
)
from domains.artifact.ports import ArtifactFiles
from domains.artifact.types import Artifact, ArtifactUsage
from domains.errors import InvalidArgument
from domains.limits import LIMITS
from domains.paging import Page, paginate

CHUNK_BYTES = 256 * 1024
"""Four copies of one wait for a client that does not read."""


@dataclass
class _Entry:
    artifact: Artifact
    readers: int = 0


class ArtifactStore:
    """Keeps artifacts within a quota.

    Belongs to one event loop; files are handled in threads.

    Args:
        files: Where the bytes lie.
        quota_bytes: Most bytes kept.
        retention: How long an artifact is kept after its last use.
        now: The clock, timezone-aware.
    """

    def __init__(
        self,
        files: ArtifactFiles,
        *,
        quota_bytes: int,
        retention: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._files = files
        self._quota_bytes = quota_bytes
        self._retention = retention
        self._now = now
        self._entries: dict[str, _Entry] = {}  # least recently used first
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Find what is there and sweep what is not whole."""
        found = await asyncio.to_thread(self._files.scan)
        self._entries = {a.artifact_id: _Entry(self._renewed(a)) for a in found}

    # Keeping.

    async def adopt(self, path: Path, sha256: str, session_id: str) -> Artifact:
        """Take a finished file into the store by renaming it.

        Its bytes are not read again: they were hashed when they were received.

        Args:
            path: A complete file, synced to disk, on the same file system, and out of
                everybody else's reach; it is gone afterwards, whatever happens.
            sha256: The hash of its content.
            session_id: The session that made it.

        Raises:
            LargerThanQuota: It alone has more bytes than may be kept in all.
            DiskFull: There is no room on the disk.
        """
        try:
            async with self._changing:
                found = await asyncio.to_thread(self._adopt, path, sha256, session_id)
                artifact = self._renewed(found)
                entry = self._entries.pop(sha256, None) or _Entry(artifact)
                entry.artifact = artifact
                self._entries[sha256] = entry
                await self._make_room()
            return artifact
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def _adopt(self, path: Path, sha256: str, session_id: str) -> Artifact:
        size = path.stat().st_size
        if size > self._quota_bytes:
            raise LargerThanQuota(size, self._quota_bytes)
        return self._files.adopt(path, sha256, session_id)

    async def _make_room(self) -> None:
        now = self._now()
        used = self.usage().used_bytes
        for entry in list(self._entries.values()):
            expire = entry.artifact.expire_time
            expired = expire is not None and expire <= now
            newest = entry is next(reversed(self._entries.values()))
            if entry.readers or newest or not (expired or used > self._quota_bytes):
                continue
            await self._remove(entry)
            used -= entry.artifact.size_bytes

    async def _remove(self, entry: _Entry) -> None:
        del self._entries[entry.artifact.artifact_id]
        await asyncio.to_thread(self._files.remove, entry.artifact.artifact_id)

    # Asking.

    def _entry(self, artifact_id: str) -> _Entry:
        InvalidArgument.check(checks.sha256("artifact_id", artifact_id))
        entry = self._entries.get(artifact_id)
        if entry is None:
            raise ArtifactNotFound(artifact_id)
        return entry

    def get(self, artifact_id: str) -> Artifact:
        """The artifact without its bytes.

        Raises:
            ArtifactNotFound: There is none of that id.
            InvalidArgument: NAME_INVALID: the id cannot be one.
        """
        return self._entry(artifact_id).artifact

    def list(
        self, *, session_id: str, media_type_prefix: str, page_size: int, page_token: str
    ) -> Page[Artifact]:
        """Artifacts, newest first.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE, TEXT_TOO_LONG,
                TEXT_INVALID or NAME_INVALID.
        """
        prefix = LIMITS["ListArtifactsRequest.media_type_prefix"]
        InvalidArgument.check(
            checks.name("session_id", session_id) if session_id else None,
            checks.line("media_type_prefix", media_type_prefix, prefix),
        )
        everything = (entry.artifact for entry in self._entries.values())
        matching = [
            artifact
            for artifact in sorted(everything, key=lambda a: a.create_time, reverse=True)
            if (not session_id or session_id in artifact.session_ids)
            and artifact.media_type.startswith(media_type_prefix)
        ]
        scope = repr(("artifacts", session_id, media_type_prefix))
        return paginate(matching, page_size=page_size, page_token=page_token, scope=scope)

    def usage(self) -> ArtifactUsage:
        """How full the store is."""
        used = sum(entry.artifact.size_bytes for entry in self._entries.values())
        return ArtifactUsage(used, self._quota_bytes)

    async def delete(self, artifact_id: str) -> None:
        """Delete an artifact now, whichever sessions made it.

        Raises:
            ArtifactNotFound: There is none of that id.
            ArtifactBeingRead: Somebody reads it.
        """
        async with self._changing:
            entry = self._entry(artifact_id)
            if entry.readers:
                raise ArtifactBeingRead
            await self._remove(entry)

    async def read(
        self, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncIterator[bytes]:
        """Its bytes from `offset`, at most `length` (0: all), in chunks of 1 MiB at most.

        Raises:
            ArtifactNotFound: There is none of that id.
            OffsetPastEnd: `offset` is past the end.
            ArtifactDamaged: The file is shorter than it was.
        """
        entry = self._entry(artifact_id)
        size = entry.artifact.size_bytes
        if offset > size:
            raise OffsetPastEnd(size)
        self._touch(entry)
        entry.readers += 1
        try:
            left = min(length or size, size - offset)
            file = await asyncio.to_thread(self._files.open, artifact_id)
            try:
                await asyncio.to_thread(file.seek, offset)
                while left:
                    data = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
                    if not data:
                        raise ArtifactDamaged
                    left -= len(data)
                    yield data
            finally:
                file.close()
        finally:
            entry.readers -= 1

    def _touch(self, entry: _Entry) -> None:
        entry.artifact = self._renewed(entry.artifact)
        self._entries[entry.artifact.artifact_id] = self._entries.pop(
            entry.artifact.artifact_id
        )

    def _renewed(self, artifact: Artifact) -> Artifact:
        """It was used now, so its retention begins again."""
        return replace(artifact, expire_time=self._now() + self._retention)
