"""The artifact store: files named by their content's hash, described by a sidecar each.

A file is visible only when it is complete: it is written and synced beside its place
and then renamed. The sidecar (`<hash>.json`) is written first, so that a visible file
always has one; a sidecar without a file is swept at the next start.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from domains.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
)
from domains.paging import Page, paginate
from server.artifacts.types import Artifact, ArtifactUsage

CHUNK_BYTES = 1024 * 1024
_ID = re.compile(r"[0-9a-f]{64}\Z")
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
)


def media_type(head: bytes) -> str:
    """What content beginning with `head` (12 bytes suffice) is."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return "application/octet-stream"


@dataclass
class _Entry:
    artifact: Artifact
    readers: int = 0


class ArtifactStore:
    """Keeps artifacts within a quota, the least recently used going first.

    Belongs to one event loop; files are handled in threads.

    Args:
        folder: Where they lie; made when missing.
        quota_bytes: Most bytes kept.
        retention: How long an artifact is kept after its last use.
        now: The clock, timezone-aware.
    """

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int,
        retention: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._retention = retention
        self._now = now
        self._entries: dict[str, _Entry] = {}  # least recently used first

    # Life.

    async def start(self) -> None:
        """Find what is there and sweep what is not whole."""
        self._entries = await asyncio.to_thread(self._scan)

    def _scan(self) -> dict[str, _Entry]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: list[Artifact] = []
        for path in self._folder.iterdir():
            if path.suffix == ".json":
                if not path.with_suffix("").exists():
                    path.unlink(missing_ok=True)
            elif _ID.match(path.name):
                found.append(self._describe(path))
            else:
                path.unlink(missing_ok=True)
        found.sort(key=lambda artifact: artifact.create_time)
        return {artifact.artifact_id: _Entry(artifact) for artifact in found}

    def _describe(self, path: Path) -> Artifact:
        stat = path.stat()
        with path.open("rb") as file:
            head = file.read(12)
        try:
            session_id = str(json.loads(self._sidecar(path).read_text())["session_id"])
        except (OSError, ValueError, KeyError):
            session_id = ""
        created = datetime.fromtimestamp(stat.st_mtime, UTC)
        return Artifact(
            path.name,
            stat.st_size,
            media_type(head),
            created,
            self._now() + self._retention,
            session_id,
        )

    def _sidecar(self, path: Path) -> Path:
        return path.with_name(path.name + ".json")

    # Keeping.

    async def adopt(self, path: Path, sha256: str, session_id: str) -> Artifact:
        """Take a finished file into the store, by renaming it where that is possible.

        Args:
            path: A complete file; it is gone afterwards, whatever happens.
            sha256: What its content must hash to.
            session_id: Who made it.

        Raises:
            DataLoss: The content is not what it should be.
            ResourceExhausted: DISK_FULL, or STORAGE_QUOTA_EXCEEDED when it alone is
                larger than the quota.
        """
        try:
            artifact = await asyncio.to_thread(self._adopt, path, sha256, session_id)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise ResourceExhausted(
                    "The disk is full; the result could not be kept.",
                    reason=Reason.DISK_FULL,
                ) from error
            raise
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        entry = self._entries.pop(sha256, None) or _Entry(artifact)
        entry.artifact = artifact
        self._entries[sha256] = entry
        await self._make_room()
        return artifact

    def _adopt(self, path: Path, sha256: str, session_id: str) -> Artifact:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            raise DataLoss(
                "A finished file is not what its maker announced.",
                reason=Reason.DATA_CORRUPTED,
            )
        size = path.stat().st_size
        if size > self._quota_bytes:
            raise ResourceExhausted(
                "The result is larger than the artifact store's quota.",
                reason=Reason.STORAGE_QUOTA_EXCEEDED,
                metadata={
                    "needed_bytes": str(size),
                    "quota_bytes": str(self._quota_bytes),
                },
            )
        target = self._folder / sha256
        if not target.exists():  # the same content may be being read right now
            self._write_sidecar(target, session_id)
            os.replace(path, target)
        return self._describe(target)

    def _write_sidecar(self, target: Path, session_id: str) -> None:
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"session_id": session_id}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._sidecar(target))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

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
        path = self._folder / entry.artifact.artifact_id
        await asyncio.to_thread(path.unlink, missing_ok=True)
        await asyncio.to_thread(self._sidecar(path).unlink, missing_ok=True)

    # Asking.

    def _entry(self, artifact_id: str) -> _Entry:
        if not _ID.match(artifact_id):
            raise InvalidArgument(
                "artifact_id must be a SHA-256 in lower-case hexadecimal.",
                reason=Reason.NAME_INVALID,
            )
        entry = self._entries.get(artifact_id)
        if entry is None:
            raise NotFound(
                "There is no such artifact; artifacts are kept for a while only.",
                reason=Reason.ARTIFACT_NOT_FOUND,
                metadata={"artifact_id": artifact_id},
            )
        return entry

    def get(self, artifact_id: str) -> Artifact:
        """The artifact without its bytes.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND.
            InvalidArgument: The id cannot be one.
        """
        return self._entry(artifact_id).artifact

    def list(
        self, *, session_id: str, media_type_prefix: str, page_size: int, page_token: str
    ) -> Page[Artifact]:
        """Artifacts, newest first.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID or FIELD_OUT_OF_RANGE.
        """
        everything: Sequence[Artifact] = [entry.artifact for entry in self._entries.values()]
        matching = [
            artifact
            for artifact in sorted(everything, key=lambda a: a.create_time, reverse=True)
            if session_id in ("", artifact.session_id)
            and artifact.media_type.startswith(media_type_prefix)
        ]
        scope = repr(("artifacts", session_id, media_type_prefix))
        return paginate(matching, page_size=page_size, page_token=page_token, scope=scope)

    def usage(self) -> ArtifactUsage:
        """How full the store is."""
        used = sum(entry.artifact.size_bytes for entry in self._entries.values())
        return ArtifactUsage(used, self._quota_bytes)

    async def delete(self, artifact_id: str) -> None:
        """Delete an artifact now.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND.
            FailedPrecondition: Somebody reads it.
        """
        entry = self._entry(artifact_id)
        if entry.readers:
            raise FailedPrecondition(
                "The artifact is being read.", metadata={"state": "being-read"}
            )
        await self._remove(entry)

    async def read(
        self, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncIterator[bytes]:
        """Its bytes from `offset`, at most `length` (0: all), in chunks of 1 MiB at most.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND.
            OutOfRange: `offset` is past the end.
        """
        entry = self._entry(artifact_id)
        size = entry.artifact.size_bytes
        if offset > size:
            raise OutOfRange(
                f"The artifact has {size} bytes.",
                reason=Reason.OFFSET_OUT_OF_RANGE,
                metadata={"size_bytes": str(size)},
            )
        self._touch(entry)
        entry.readers += 1
        try:
            left = min(length or size, size - offset)
            file = await asyncio.to_thread((self._folder / artifact_id).open, "rb")
            try:
                await asyncio.to_thread(file.seek, offset)
                while left:
                    data = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
                    if not data:
                        raise DataLoss(
                            "The artifact's file is shorter than it was.",
                            reason=Reason.DATA_CORRUPTED,
                        )
                    left -= len(data)
                    yield data
            finally:
                file.close()
        finally:
            entry.readers -= 1

    def _touch(self, entry: _Entry) -> None:
        entry.artifact = replace(entry.artifact, expire_time=self._now() + self._retention)
        self._entries[entry.artifact.artifact_id] = self._entries.pop(
            entry.artifact.artifact_id
        )
