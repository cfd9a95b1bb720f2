"""Which artifacts are kept: within a quota, the least recently used going first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from domains import checks
from domains.artifact.errors import (
    ArtifactBeingRead,
    ArtifactDamaged,
    ArtifactNotFound,
    DiskReserved,
    LargerThanQuota,
    OffsetPastEnd,
    StorageUnavailable,
)
from domains.artifact.ports import ArtifactFiles
from domains.artifact.types import Artifact, ArtifactUsage
from domains.errors import InvalidArgument
from domains.limits import LIMITS
from domains.paging import Page, paginate
from domains.shortages import shortage_of

CHUNK_BYTES = 256 * 1024
"""Four copies of one wait for a client that does not read."""


@dataclass
class _Entry:
    artifact: Artifact
    expires: float
    """When its retention ends, in the store's monotonic seconds."""
    readers: int = 0


class ArtifactStore:
    """Keeps artifacts within a quota.

    Belongs to one event loop; files are handled in threads.

    Args:
        files: Where the bytes lie.
        quota_bytes: Most bytes kept.
        min_free_bytes: With less than this free on the disk, nothing more is kept.
        retention: How long an artifact is kept after its last use.
        now: The clock that people read, timezone-aware.
        monotonic: The clock that retention goes by, in seconds: it never jumps.
    """

    def __init__(
        self,
        files: ArtifactFiles,
        *,
        quota_bytes: int,
        min_free_bytes: int = 0,
        retention: timedelta,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._quota_bytes = quota_bytes
        self._min_free_bytes = min_free_bytes
        self._retention = retention
        self._now = now
        self._monotonic = monotonic
        self._entries: dict[str, _Entry] = {}  # least recently used first
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Find what is there and sweep what is not whole.

        What is larger than the quota was never kept, and would push everything else out.
        """
        found = await asyncio.to_thread(self._files.scan)
        self._entries = {
            artifact.artifact_id: self._renewed(artifact)
            for artifact in found
            if artifact.size_bytes <= self._quota_bytes
        }

    # Keeping.

    async def adopt(self, path: Path, sha256: str, session_id: str) -> Artifact:
        """Take a finished file into the store by renaming it.

        Its bytes are not read again: they were hashed when they were received.

        Args:
            path: A complete file, synced to disk, and out of everybody else's reach; it is
                gone afterwards, whatever happens.
            sha256: The hash of its content.
            session_id: The session that made it.

        Raises:
            LargerThanQuota: It alone has more bytes than may be kept in all.
            DiskReserved: Too little of the disk is free.
            DiskFull: There is no room on the disk.
            StorageUnavailable: It cannot be kept for another reason.
        """
        try:
            async with self._changing:
                if sha256 not in self._entries:
                    await self._check_room()
                found = await asyncio.to_thread(self._adopt, path, sha256, session_id)
                entry = self._renewed(found, self._entries.pop(sha256, None))
                self._entries[sha256] = entry
                await self._make_room()
            return entry.artifact
        finally:
            await asyncio.to_thread(_discard, path)

    def _adopt(self, path: Path, sha256: str, session_id: str) -> Artifact:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise StorageUnavailable from error
        if size > self._quota_bytes:
            raise LargerThanQuota(size, self._quota_bytes)
        return self._files.adopt(path, sha256, session_id)

    async def _check_room(self) -> None:
        """Refuse to fill the disk to its end; what has expired goes first."""
        free = await asyncio.to_thread(self._files.free_bytes)
        if free < self._min_free_bytes:
            await self._remove_expired()
            free = await asyncio.to_thread(self._files.free_bytes)
        if free < self._min_free_bytes:
            raise DiskReserved(free, self._min_free_bytes)

    async def _make_room(self) -> None:
        """Keep within the quota; the newest stays in any case."""
        await self._remove_expired(but=1)
        used = self.usage().used_bytes
        for entry in list(self._entries.values())[:-1]:
            if used <= self._quota_bytes:
                return
            if not entry.readers:
                await self._let_go(entry)
                used -= entry.artifact.size_bytes

    async def _remove_expired(self, *, but: int = 0) -> None:
        """Delete those whose retention is over, except the `but` that were used last."""
        now = self._monotonic()
        for entry in list(self._entries.values())[: len(self._entries) - but]:
            if entry.expires > now:
                return  # those after it were used later
            if not entry.readers:
                await self._let_go(entry)

    async def _let_go(self, entry: _Entry) -> None:
        """Delete it; a file that cannot be deleted is logged and keeps nothing else from it."""
        with contextlib.suppress(StorageUnavailable):
            await self._remove(entry)

    async def _remove(self, entry: _Entry) -> None:
        del self._entries[entry.artifact.artifact_id]
        await asyncio.to_thread(self._files.remove, entry.artifact.artifact_id)

    async def tidy(self) -> None:
        """Delete what has expired; once in a while is often enough."""
        async with self._changing:
            await self._remove_expired()

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

    async def look(self, artifact_id: str) -> Artifact:
        """As `get`, of an artifact whose file is there now."""
        artifact = self.get(artifact_id)
        await self._forget_missing([artifact])
        return self.get(artifact.artifact_id)

    async def look_through(
        self, *, session_id: str, media_type_prefix: str, page_size: int, page_token: str
    ) -> Page[Artifact]:
        """As `list`, of artifacts whose files are there now."""
        while True:
            page = self.list(
                session_id=session_id,
                media_type_prefix=media_type_prefix,
                page_size=page_size,
                page_token=page_token,
            )
            if not await self._forget_missing(page.items):
                return page

    async def _forget_missing(self, artifacts: Iterable[Artifact]) -> bool:
        """Drop those whose files were deleted from outside; whether there were any."""
        names = [artifact.artifact_id for artifact in artifacts]
        missing = await asyncio.to_thread(self._files.missing, names)
        for name in missing:
            self._entries.pop(name, None)
        return bool(missing)

    def usage(self) -> ArtifactUsage:
        """How full the store is."""
        used = sum(entry.artifact.size_bytes for entry in self._entries.values())
        return ArtifactUsage(used, self._quota_bytes)

    async def delete(self, artifact_id: str) -> None:
        """Delete an artifact now, whichever sessions made it.

        Raises:
            ArtifactNotFound: There is none of that id.
            ArtifactBeingRead: Somebody reads it.
            StorageUnavailable: Its file cannot be deleted; it stays.
        """
        async with self._changing:
            entry = self._entry(artifact_id)
            if entry.readers:
                raise ArtifactBeingRead
            try:
                await self._remove(entry)
            except StorageUnavailable:
                self._entries[artifact_id] = entry
                raise

    async def read(
        self, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncIterator[bytes]:
        """Its bytes from `offset`, at most `length` (0: all), in chunks of 1 MiB at most.

        Raises:
            ArtifactNotFound: There is none of that id, or its file was deleted.
            OffsetPastEnd: `offset` is past the end.
            ArtifactDamaged: The file's content has another hash now.
            StorageUnavailable: The file cannot be read.
        """
        entry = self._entry(artifact_id)
        size = entry.artifact.size_bytes
        if offset > size:
            raise OffsetPastEnd(size)
        self._touch(entry)
        entry.readers += 1
        try:
            left = min(length or size, size - offset)
            file = await self._open(artifact_id)
            try:
                await asyncio.to_thread(file.seek, offset)
                while left:
                    data = await asyncio.to_thread(_read, file, min(CHUNK_BYTES, left))
                    if not data:
                        raise ArtifactDamaged(artifact_id)
                    left -= len(data)
                    yield data
            finally:
                file.close()
        finally:
            entry.readers -= 1

    async def _open(self, artifact_id: str) -> BinaryIO:
        """Its file; one that is gone or damaged is an artifact no more."""
        try:
            return await asyncio.to_thread(self._files.open, artifact_id)
        except (ArtifactNotFound, ArtifactDamaged):
            async with self._changing:
                # It may have been drawn again meanwhile.
                if not await asyncio.to_thread(self._files.settle, artifact_id):
                    self._entries.pop(artifact_id, None)
            raise

    def _touch(self, entry: _Entry) -> None:
        self._renewed(entry.artifact, entry)
        self._entries[entry.artifact.artifact_id] = self._entries.pop(
            entry.artifact.artifact_id
        )

    def _renewed(self, artifact: Artifact, entry: _Entry | None = None) -> _Entry:
        """The artifact's entry, which was used now: its retention begins again."""
        artifact = replace(artifact, expire_time=self._now() + self._retention)
        expires = self._monotonic() + self._retention.total_seconds()
        if entry is None:
            return _Entry(artifact, expires)
        entry.artifact, entry.expires = artifact, expires
        return entry


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:  # the disk fails
        raise shortage_of(error) or StorageUnavailable() from error


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
