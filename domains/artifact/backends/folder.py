"""Artifacts in a folder: files named by their content's hash, described by a sidecar each.

A file is visible only when it is complete: it comes complete, is synced, and renamed into
its place; it is kept once that name is synced as well. The sidecar (`<hash>.json`) is written
first, so that a visible file always has one; a sidecar without a file is swept at the next
start. Anything may happen to the folder from outside: a name is believed only once the content
has been hashed, and what has no name of ours is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from domains import failpoints
from domains.artifact.backends.disk_errors import typed
from domains.artifact.backends.sidecar import Sidecar
from domains.artifact.errors import ArtifactDamaged, ArtifactNotFound, StorageUnavailable
from domains.artifact.types import Claim, Holding, Holdings, StoredFile
from domains.avif_boxes import BRAND
from domains.clients import DEFAULT_CLIENT
from domains.picture_files import NoPicture, measure
from domains.private_folders import prepare
from domains.regular_files import NotRegular, open_regular
from domains.set_aside import is_aside, set_aside
from domains.whole_files import replace, sync_file, sync_folder, whole_file

_NAME = re.compile(r"[0-9a-f]{64}\Z")
_SIDECAR = re.compile(r"[0-9a-f]{64}\.json\Z")
# The second form is that of earlier versions.
_PART = re.compile(r"([0-9a-f]{64}(\.json)?\.\w{8}|tmp\w{8})\.part\Z")
_HEAD_BYTES = 12
_MOST_NAMED = 10
_LAST_MOMENT = 253_402_300_799.0  # of the year 9999: what a Timestamp can say
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
)
# What no sidecar speaks of is the operator's.
_NOBODYS: Holdings = {DEFAULT_CLIENT: Holding()}
_log = logging.getLogger("deviceops.artifacts")


def media_type(head: bytes) -> str:
    """What content beginning with `head` (12 bytes suffice) is."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:12] == BRAND:
        return "image/avif"
    return "application/octet-stream"


class ArtifactFolder:
    """Implements `ArtifactFiles`.

    Args:
        folder: Where they lie; made whenever it is missing.
        gone: Called, in a thread, with the id of each whose file goes or is gone.
    """

    def __init__(
        self, folder: Path, gone: Callable[[str], None] = lambda artifact_id: None
    ) -> None:
        self._folder = folder
        self._gone = gone
        # What was hashed, by what tells that a file is still the same: hashed once.
        self._whole: dict[str, tuple[int, ...]] = {}

    def scan(self) -> list[StoredFile]:
        found: list[StoredFile] = []
        left_alone = swept = 0
        without_file: list[str] = []
        try:
            prepare(self._folder)
            with os.scandir(self._folder) as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            _log.error("kept artifacts cannot be listed: %s", error)
            return []
        named = frozenset(names)
        for name in names:
            if _NAME.match(name):
                found += self._listed(name)
            elif _PART.match(name):
                self._sweep(name)
                swept += 1
            elif _SIDECAR.match(name) and name[:64] not in named:
                self._sweep(name)
                without_file.append(name[:64])
            elif not _SIDECAR.match(name) and not is_aside(name):
                left_alone += 1
        if swept:
            _log.info("%d unfinished files of artifacts were swept", swept)
        if without_file:
            _log.warning(
                "%d artifacts were known and have no file, deleted from outside or unfinished"
                " when the server ended: %s",
                len(without_file),
                ", ".join(sorted(without_file)[:_MOST_NAMED]),
            )
        if left_alone:
            _log.info("%d entries among the artifacts are none and are left", left_alone)
        return sorted(found, key=lambda stored: stored.modify_time)

    def adopt(self, path: Path, artifact_id: str, claim: Claim) -> StoredFile:
        with typed():
            prepare(self._folder)
            kept = self._same_size(path, artifact_id) and self.settle(artifact_id)
            sidecar = self._sidecar(artifact_id)
            before = sidecar.holdings() or (_NOBODYS if kept else {})
            after = claim.added_to(before.get(claim.owner))
            if after != before.get(claim.owner):
                sidecar.write({**before, claim.owner: after}, named=False)
                failpoints.reach("artifact.described")  # and not there
            target = self._folder / artifact_id
            if not kept:  # the same content may be being read right now
                self._move(path, target)
                failpoints.reach("artifact.renamed")  # and no session knows it
            sync_folder(self._folder)  # both names at once
            handle = open_regular(target)
            with open(handle, "rb") as file:
                if not kept:
                    self._whole[artifact_id] = _identity(os.fstat(handle))
                return self._describe(artifact_id, file)

    def note(self, artifact_id: str, holdings: Holdings) -> None:
        with typed():
            prepare(self._folder)
            self._sidecar(artifact_id).write(holdings)

    def open(self, artifact_id: str) -> BufferedReader:
        with typed():
            try:
                file = open(open_regular(self._folder / artifact_id), "rb")  # noqa: SIM115
            except (FileNotFoundError, NotADirectoryError):
                raise ArtifactNotFound(artifact_id) from None
            except NotRegular:
                raise ArtifactDamaged(artifact_id) from None
            try:
                self._check(artifact_id, file)
            except BaseException:
                file.close()
                raise
            return file

    def link(self, artifact_id: str, target: Path) -> bool:
        known = self._whole.get(artifact_id)
        try:
            os.link(self._folder / artifact_id, target, follow_symlinks=False)
        except (OSError, NotImplementedError):
            return False
        linked = _identity(target.lstat())
        if known is None or linked[:-1] != known[:-1]:
            target.unlink()
            return False
        self._whole[artifact_id] = linked  # a new name is a change that tells nothing
        return True

    def settle(self, artifact_id: str) -> bool:
        try:
            self.open(artifact_id).close()
        except ArtifactNotFound:
            return False
        except (ArtifactDamaged, StorageUnavailable):
            self._set_aside(artifact_id)
            return False
        return True

    def missing(self, artifact_ids: Iterable[str]) -> list[str]:
        missing = [name for name in artifact_ids if not os.path.lexists(self._folder / name)]
        for name in missing:
            self._gone(name)
        return missing

    def remove(self, artifact_id: str) -> None:
        self._whole.pop(artifact_id, None)
        self._gone(artifact_id)
        with typed():
            for path in (self._folder / artifact_id, self._sidecar(artifact_id).path):
                with contextlib.suppress(FileNotFoundError):
                    if not stat.S_ISDIR(path.lstat().st_mode):
                        path.unlink()

    def free_bytes(self) -> int:
        with typed():
            prepare(self._folder)
            return shutil.disk_usage(self._folder).free

    def _same_size(self, path: Path, artifact_id: str) -> bool:
        """Whether what is kept could be what `path` is; otherwise it is set aside unread."""
        target = self._folder / artifact_id
        try:
            same = target.lstat().st_size == path.stat().st_size
        except FileNotFoundError:
            return False
        if not same:
            self._set_aside(artifact_id)
        return same

    def _set_aside(self, artifact_id: str) -> None:
        self._whole.pop(artifact_id, None)
        with typed(), contextlib.suppress(FileNotFoundError):
            set_aside(self._folder / artifact_id, "its content is not what its name says")

    def _sidecar(self, artifact_id: str) -> Sidecar:
        return Sidecar(self._folder / f"{artifact_id}.json")

    def _listed(self, artifact_id: str) -> list[StoredFile]:
        """What has an artifact's name; nothing, and a warning, when it is no file."""
        try:
            with open(open_regular(self._folder / artifact_id), "rb") as file:
                return [self._describe(artifact_id, file)]
        except OSError as error:
            _log.warning("artifact %s is left out: %s", artifact_id, error.strerror or error)
            return []

    def _describe(self, artifact_id: str, file: BufferedReader) -> StoredFile:
        status = os.fstat(file.fileno())
        moment = min(max(status.st_mtime, 0.0), _LAST_MOMENT)
        try:
            _, width, height = measure(file, status.st_size)
        except NoPicture:
            width = height = 0
        file.seek(0)
        return StoredFile(
            artifact_id=artifact_id,
            size_bytes=status.st_size,
            media_type=media_type(file.read(_HEAD_BYTES)),
            modify_time=datetime.fromtimestamp(moment, UTC),
            width=width,
            height=height,
            holdings=self._sidecar(artifact_id).holdings() or _NOBODYS,
        )

    def _check(self, artifact_id: str, file: BufferedReader) -> None:
        """Refuse content that its name is not the hash of; hashed again when it changed."""
        identity = _identity(os.fstat(file.fileno()))
        if self._whole.get(artifact_id) == identity:
            return
        if hashlib.file_digest(file, "sha256").hexdigest() != artifact_id:
            raise ArtifactDamaged(artifact_id)
        file.seek(0)
        self._whole[artifact_id] = identity

    def _move(self, path: Path, target: Path) -> None:
        sync_file(path)
        try:
            replace(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # The artifacts are on a disk of their own.
            with path.open("rb") as source, whole_file(target) as file:
                shutil.copyfileobj(source, file)

    def _sweep(self, name: str) -> None:
        """Delete what a crash left; what only has such a name stays."""
        path = self._folder / name
        with contextlib.suppress(OSError):
            if stat.S_ISREG(path.lstat().st_mode):
                path.unlink()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
