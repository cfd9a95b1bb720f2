"""Uploads that become artifacts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from domains.artifact.core.changes import check_labels, check_retention
from domains.artifact.core.store import ArtifactStore
from domains.artifact.errors import ArtifactNotFound, UploadsTooLarge
from domains.artifact.ports import UploadFile, UploadFiles
from domains.artifact.types import SAME_LABELS, Artifact, LabelChange
from domains.clients import Caller, Role
from domains.finishing import finished
from domains.rooms import Room
from domains.upload_parts import UploadHeader, UploadPart
from domains.uploads import Uploads

_PURPOSE = "artifact"


class ArtifactUploads:
    """Takes uploads and has them kept.

    Args:
        uploads: Knows those that are not finished.
        files: Where their bytes lie meanwhile.
        store: Keeps them when they are whole.
        most_bytes: Most bytes of unfinished ones; one client has half while others have some.
    """

    def __init__(
        self, uploads: Uploads, files: UploadFiles, store: ArtifactStore, *, most_bytes: int
    ) -> None:
        self._uploads = uploads
        self._files = files
        self._store = store
        self._room = Room(most_bytes)

    async def start(self) -> None:
        """Delete what an earlier server left unfinished."""
        await asyncio.to_thread(self._files.sweep)

    async def receive(
        self,
        client: str,
        header: UploadHeader,
        parts: AsyncIterator[UploadPart],
        *,
        retention_seconds: float | None = None,
        labels: LabelChange = SAME_LABELS,
    ) -> tuple[Artifact, bool]:
        """Take an upload to its end, and keep its bytes for this client.

        What this client has already is not taken again, where the header has its hash.

        Returns:
            The artifact, and whether this client had it before.

        Raises:
            InvalidArgument: FIELD_OUT_OF_RANGE: no retention is that long or short; what
                `check_labels` finds.
            UploadsTooLarge: This client has its share of unfinished bytes.
            DomainError: What `Uploads.receive` and `ArtifactStore.adopt` raise.
        """
        check_retention(retention_seconds, "header.retention")
        check_labels(labels)
        had = await self._had(client, header.sha256, retention_seconds, labels)
        if had is not None:
            return had, True

        async def begin() -> _Target:
            return await self._begin(client, header.size_bytes)

        target, sha256 = await self._uploads.receive(
            client, header, parts, purpose=_PURPOSE, target=begin
        )
        return await finished(self._keep(client, target, sha256, retention_seconds, labels))

    async def _keep(
        self,
        client: str,
        target: _Target,
        sha256: str,
        retention_seconds: float | None,
        labels: LabelChange,
    ) -> tuple[Artifact, bool]:
        try:
            had = await self._had(client, sha256, None, SAME_LABELS)
            kept = await self._store.adopt(
                target.file.path,
                sha256,
                client,
                retention_seconds=retention_seconds,
                labels=labels,
            )
            return kept, had is not None
        finally:
            target.free()

    async def _had(
        self, client: str, sha256: str, retention_seconds: float | None, labels: LabelChange
    ) -> Artifact | None:
        """What this client has of that hash, which is used now."""
        if not sha256:
            return None
        owner = Caller(client, Role.RUN)
        try:
            await self._store.look(owner, sha256)
            return await self._store.update(
                owner, sha256, retention_seconds=retention_seconds, labels=labels
            )
        except ArtifactNotFound:
            return None

    async def _begin(self, client: str, size_bytes: int) -> _Target:
        await self._store.check_room_for(size_bytes)
        if not self._room.has_place_for(client, size_bytes):
            raise UploadsTooLarge(size_bytes, self._room.limit_for(client))
        self._room.take(client, size_bytes)
        try:
            file = await asyncio.to_thread(self._files.create)
        except BaseException:
            self._room.give_back(client, size_bytes)
            raise
        return _Target(file, lambda: self._room.give_back(client, size_bytes))


class _Target:
    """A growing file, and its place among the unfinished ones."""

    def __init__(self, file: UploadFile, free: Callable[[], None]) -> None:
        self.file = file
        self.free = free

    async def write(self, position: int, data: bytes) -> None:
        await self.file.write(position, data)

    async def settle(self) -> None:
        await self.file.settle()

    async def discard(self) -> None:
        self.free()
        await self.file.discard()
