"""Which artifacts are kept: within a quota, the least recently used going first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from domains import checks
from domains.artifact.core.arriving import Space, discard, take
from domains.artifact.core.changes import check_labels, check_retention
from domains.artifact.core.entries import Entry, Retention
from domains.artifact.core.listing import page_of
from domains.artifact.core.quota import Quota, staying
from domains.artifact.core.reading import chunks_of, open_at
from domains.artifact.errors import (
    ArtifactBeingRead,
    ArtifactDamaged,
    ArtifactNeeded,
    ArtifactNotFound,
    DiskReserved,
    OffsetPastEnd,
    StorageUnavailable,
)
from domains.artifact.ports import ArtifactFiles, Needed
from domains.artifact.types import (
    SAME_LABELS,
    Artifact,
    ArtifactFilter,
    ArtifactUsage,
    Claim,
    LabelChange,
)
from domains.clients import Caller, Role
from domains.errors import InvalidArgument, ResourceExhausted
from domains.finishing import finishing
from domains.paging import Page


class ArtifactStore:
    """Keeps artifacts within a quota. The same bytes of several clients are kept once and
    belong to each of them: each sees, keeps, pins and deletes what is its own.

    Belongs to one event loop; files are handled in threads.

    Args:
        files: Where the bytes lie.
        quota_bytes: Most bytes kept.
        min_free_bytes: With less than this free on the disk, nothing more is kept.
        retention: How long an artifact is kept after its last use.
        now: The clock that people read, timezone-aware.
        monotonic: The clock that retention goes by, in seconds: it never jumps.
        needed: Artifacts that accepted work needs.
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
        needed: Needed = dict,
    ) -> None:
        self._files, self._needed = files, needed
        self._quota = Quota(quota_bytes)
        self._min_free_bytes = min_free_bytes
        self._retention = Retention(retention, now, monotonic)
        self._entries: dict[str, Entry] = {}  # least recently used first
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Find what is there and sweep what is not whole.

        What is larger than the quota was never kept, and would push everything else out.
        """
        found = await asyncio.to_thread(self._files.scan)
        self._entries = {
            stored.artifact_id: Entry.of(stored, self._retention)
            for stored in found
            if stored.size_bytes <= self._quota.size_bytes
        }

    @finishing  # a thread takes the file, and goes on without its caller
    async def adopt(
        self,
        path: Path,
        sha256: str,
        owner: str,
        *,
        session_id: str = "",
        retention_seconds: float | None = None,
        labels: LabelChange = SAME_LABELS,
    ) -> Artifact:
        """Take a finished file into the store by renaming it.

        Args:
            path: A complete file out of others' reach; it always goes.
            sha256: The hash of its content, which is not computed again.
            owner: The client it belongs to.
            session_id: The session that made it; empty for an upload.
            retention_seconds: How long it is kept after its last use; None leaves that as it
                is, or to the server's setting.
            labels: What its owner calls it.

        Raises:
            InvalidArgument: TOO_MANY_ELEMENTS: it would have too many labels.
            LargerThanQuota: It has more bytes than may be kept beside what is pinned.
            DiskReserved, DiskFull: There is no room on the disk.
            StorageUnavailable: It cannot be kept for another reason.
        """
        claim = Claim(owner, self._retention.now(), session_id, retention_seconds, labels)
        try:
            async with self._changing:
                space = Space.beside(self._entries, sha256, self._quota, self._min_free_bytes)
                stored = await take(
                    self._files, path, sha256, claim, space, self._remove_expired
                )
                entry = self._entries.pop(sha256, None) or Entry.of(stored, self._retention)
                entry.stored = stored
                entry.use(owner, self._retention, stored.holdings[owner])
                self._entries[sha256] = entry
                await self._make_room(sha256)
            return entry.artifact(owner)
        except BaseException:
            await asyncio.to_thread(discard, path)
            raise

    async def check_room_for(self, size_bytes: int) -> None:
        """Refuse what would not be kept.

        Raises:
            LargerThanQuota: It has more bytes than may be kept beside what is pinned or needed.
            DiskReserved: Too little of the disk is free.
        """
        self._quota.check_size(self._entries.values(), size_bytes, self._needed())
        needed = self._min_free_bytes + size_bytes
        async with self._changing:
            free = await asyncio.to_thread(self._files.free_bytes)
            if free < needed:  # what has expired goes first
                await self._remove_expired()
                free = await asyncio.to_thread(self._files.free_bytes)
        if free < needed:
            raise DiskReserved(free, self._min_free_bytes, size_bytes)

    async def _make_room(self, newest: str) -> None:
        """Keep within the quota, and the newest in any case."""
        await self._remove_expired(newest)
        stays = staying(self._needed, newest)
        for entry in self._quota.beyond(list(self._entries.values()), stays):
            with contextlib.suppress(StorageUnavailable, ResourceExhausted):
                await self._remove(entry)

    async def _remove_expired(self, newest: str = "") -> None:
        """Take what is over from whom it was; what the disk refuses keeps nothing else."""
        moment, stays = self._retention.monotonic(), staying(self._needed, newest)
        for entry in list(self._entries.values()):
            expired = [] if entry.readers else entry.expired(moment)
            if not expired or stays(entry.artifact_id):
                continue
            with contextlib.suppress(StorageUnavailable, ResourceExhausted):
                if len(expired) == len(entry.shares):
                    await self._remove(entry)
                else:
                    await self._disown(entry, expired)

    async def _remove(self, entry: Entry) -> None:
        self._entries.pop(entry.artifact_id, None)
        await asyncio.to_thread(self._files.remove, entry.artifact_id)

    async def _disown(self, entry: Entry, owners: Iterable[str]) -> None:
        """Take it from these owners; the others keep it."""
        left = {k: share.holding for k, share in entry.shares.items() if k not in owners}
        await asyncio.to_thread(self._files.note, entry.artifact_id, left)
        for owner in owners:
            del entry.shares[owner]

    async def tidy(self) -> None:
        """Delete what has expired; once in a while is often enough."""
        async with self._changing:
            await self._remove_expired()

    # Asking.

    def _found(self, caller: Caller, artifact_id: str) -> tuple[Entry, str]:
        """The entry, and whose it is to the caller."""
        InvalidArgument.check(checks.sha256("artifact_id", artifact_id))
        entry = self._entries.get(artifact_id)
        owner = entry.owner_for(caller) if entry else None
        if entry is None or owner is None:
            raise ArtifactNotFound(artifact_id)
        return entry, owner

    def get(self, caller: Caller, artifact_id: str) -> Artifact:
        """The artifact without its bytes.

        Raises:
            ArtifactNotFound: There is none of that id that the caller may see.
            InvalidArgument: NAME_INVALID: the id cannot be one.
        """
        entry, owner = self._found(caller, artifact_id)
        return entry.artifact(owner)

    def list(
        self,
        caller: Caller,
        wanted: ArtifactFilter,
        *,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Artifact]:
        """Artifacts that the caller may see, newest first.

        Raises:
            InvalidArgument: As `page_of`.
        """
        return page_of(
            self._entries, caller, wanted, page_size=page_size, page_token=page_token
        )

    async def look(self, caller: Caller, artifact_id: str) -> Artifact:
        """As `get`, of an artifact whose file is there now."""
        artifact = self.get(caller, artifact_id)
        await self._forget_missing([artifact])
        return self.get(caller, artifact_id)

    async def look_through(
        self,
        caller: Caller,
        wanted: ArtifactFilter,
        *,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Artifact]:
        """As `list`, of artifacts whose files are there now."""
        while True:
            page = self.list(caller, wanted, page_size=page_size, page_token=page_token)
            if not await self._forget_missing(page.items):
                return page

    async def _forget_missing(self, artifacts: Iterable[Artifact]) -> bool:
        """Drop those whose files were deleted from outside; whether there were any."""
        names = [artifact.artifact_id for artifact in artifacts]
        if missing := await asyncio.to_thread(self._files.missing, names):
            async with self._changing:  # what was kept again meanwhile is there
                missing = await asyncio.to_thread(self._files.missing, missing)
                for name in missing:
                    self._entries.pop(name, None)
        return bool(missing)

    @property
    def artifact_ids(self) -> Collection[str]:
        """Everybody's."""
        return self._entries.keys()

    def usage(self) -> ArtifactUsage:
        """How full the store is."""
        used = sum(entry.size_bytes for entry in self._entries.values())
        return ArtifactUsage(used, self._quota.size_bytes)

    # Changing.

    async def update(
        self,
        caller: Caller,
        artifact_id: str,
        *,
        pinned: bool | None = None,
        retention_seconds: float | None = None,
        labels: LabelChange = SAME_LABELS,
    ) -> Artifact:
        """Keep an artifact otherwise from now on; None leaves as it is.

        Raises:
            ArtifactNotFound: There is none of that id that the caller may see.
            InvalidArgument: What `check_retention` and `check_labels` find, or it would have
                too many labels.
            TooMuchPinned: No more may be pinned.
            DiskFull: It cannot be noted, for lack of room.
            StorageUnavailable: It cannot be noted.
        """
        check_retention(retention_seconds)
        check_labels(labels)
        async with self._changing:
            entry, owner = self._found(caller, artifact_id)
            before = entry.shares[owner].holding
            holding = before.changed(pinned, retention_seconds, labels)
            if holding.pinned and not before.pinned:
                self._quota.check_pin(self._entries.values(), entry, owner)
            if holding != before:
                noted = {**entry.holdings, owner: holding}
                await asyncio.to_thread(self._files.note, artifact_id, noted)
            entry.use(owner, self._retention, holding)
            self._move_to_end(entry)
            return entry.artifact(owner)

    async def delete(self, caller: Caller, artifact_id: str) -> None:
        """Delete an artifact now, whichever sessions made it.

        Other clients' artifacts of the same bytes stay, and their file with them.

        Raises:
            ArtifactNotFound: There is none that the caller may see.
            ArtifactNeeded: Work of its owner has not come to it yet.
            ArtifactBeingRead: Somebody reads it.
            StorageUnavailable: Its file cannot be deleted; it stays.
        """
        async with self._changing:
            entry, owner = self._found(caller, artifact_id)
            if owner in self._needed().get(artifact_id, ()):
                raise ArtifactNeeded
            if len(entry.shares) > 1:
                await self._disown(entry, [owner])
                return
            if entry.readers:
                raise ArtifactBeingRead
            try:
                await self._remove(entry)
            except StorageUnavailable:
                self._entries[artifact_id] = entry
                raise

    # Reading.

    async def read(
        self, caller: Caller, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncGenerator[bytes]:
        """Its bytes from `offset`, at most `length` (0: all), in chunks of 1 MiB at most.

        Raises:
            ArtifactNotFound: There is none that the caller may see, or its file was deleted.
            OffsetPastEnd: `offset` is past the end.
            ArtifactDamaged: The file's content has another hash now.
            StorageUnavailable: The file cannot be read.
        """
        entry, owner = self._found(caller, artifact_id)
        size = entry.size_bytes
        if not 0 <= offset <= size:
            raise OffsetPastEnd(size)
        wanted = min(length if length > 0 else size, size - offset)
        with self._reading(entry, owner):
            opened = await self._open(artifact_id, offset, wanted)
            async with aclosing(chunks_of(*opened, offset, wanted, artifact_id)) as chunks:
                del opened  # what was read goes once it is sent
                async for data in chunks:
                    yield data

    async def link(self, caller: Caller, artifact_id: str, target: Path) -> bool:
        """Give its bytes a second name at `target`, which outlives the artifact.

        False where `target` is on another disk, or on one without links: `read` it then.

        Raises: As `read`.
        """
        with self._reading(*self._found(caller, artifact_id)):
            file, _ = await self._open(artifact_id)
            file.close()
            return await asyncio.to_thread(self._files.link, artifact_id, target)

    def read_of(
        self, owner: str, artifact_id: str, *, offset: int = 0, length: int = 0
    ) -> AsyncGenerator[bytes]:
        """As `read`, of what a client has, whoever looks at its work."""
        return self.read(Caller(owner, Role.RUN), artifact_id, offset=offset, length=length)

    @contextlib.contextmanager
    def _reading(self, entry: Entry, owner: str) -> Iterator[None]:
        """Use it, and keep it from being deleted meanwhile."""
        entry.use(owner, self._retention)
        self._move_to_end(entry)
        entry.readers += 1
        try:
            yield
        finally:
            entry.readers -= 1

    async def _open(
        self, artifact_id: str, offset: int = 0, length: int = 0
    ) -> tuple[BinaryIO, bytes]:
        """As `open_at`; one that is gone or damaged is an artifact no more."""
        try:
            return await asyncio.to_thread(open_at, self._files, artifact_id, offset, length)
        except (ArtifactNotFound, ArtifactDamaged):
            async with self._changing:
                # It may have been drawn again meanwhile.
                if not await asyncio.to_thread(self._files.settle, artifact_id):
                    self._entries.pop(artifact_id, None)
            raise

    def _move_to_end(self, entry: Entry) -> None:
        if self._entries.pop(entry.artifact_id, None) is entry:
            self._entries[entry.artifact_id] = entry
