"""Artifacts in a folder: files named by their content's hash, described by a sidecar each.

A file is visible only when it is complete: it comes complete and synced, and is renamed
into its place. The sidecar (`<hash>.json`) is written first, so that a visible file always
has one; a sidecar without a file is swept at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from domains.artifact.errors import DiskFull
from domains.artifact.types import Artifact
from domains.errors import DataLoss, Reason

_NAME = re.compile(r"[0-9a-f]{64}\Z")
_HEAD_BYTES = 12
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


class ArtifactFolder:
    """Implements `ArtifactFiles`.

    Args:
        folder: Where they lie; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def scan(self) -> list[Artifact]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: list[Artifact] = []
        for path in self._folder.iterdir():
            if path.suffix == ".json":
                if not path.with_suffix("").exists():
                    path.unlink(missing_ok=True)
            elif _NAME.match(path.name):
                found.append(self._describe(path))
            else:
                path.unlink(missing_ok=True)
        return sorted(found, key=lambda artifact: artifact.create_time)

    def adopt(self, path: Path, artifact_id: str, session_id: str) -> Artifact:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != artifact_id:
            raise DataLoss(
                "A finished file is not what its maker announced.",
                reason=Reason.CHECKSUM_MISMATCH,
            )
        target = self._folder / artifact_id
        if not target.exists():  # the same content may be being read right now
            with _refusing_full_disk():
                self._write_sidecar(target, session_id)
                os.replace(path, target)
        return self._describe(target)

    def open(self, artifact_id: str) -> BinaryIO:
        return (self._folder / artifact_id).open("rb")

    def remove(self, artifact_id: str) -> None:
        path = self._folder / artifact_id
        path.unlink(missing_ok=True)
        _sidecar(path).unlink(missing_ok=True)

    def _describe(self, path: Path) -> Artifact:
        stat = path.stat()
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        try:
            session_id = str(json.loads(_sidecar(path).read_text())["session_id"])
        except (OSError, ValueError, KeyError):
            session_id = ""
        return Artifact(
            artifact_id=path.name,
            size_bytes=stat.st_size,
            media_type=media_type(head),
            create_time=datetime.fromtimestamp(stat.st_mtime, UTC),
            session_id=session_id,
        )

    def _write_sidecar(self, target: Path, session_id: str) -> None:
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"session_id": session_id}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, _sidecar(target))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


@contextlib.contextmanager
def _refusing_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull from error
        raise
