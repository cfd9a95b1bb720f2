"""Artifacts in a folder: files named by their content's hash, described by a sidecar each.

A file is visible only when it is complete: it comes complete and synced, and is renamed
into its place. The sidecar (`<hash>.json`) is written first, so that a visible file always
has one; a sidecar without a file is swept at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

from msgspec import Meta

from domains.artifact.errors import DiskFull
from domains.artifact.types import Artifact
from domains.codec import Malformed, Name, Text, Value, decode_json, encode_json

MOST_SESSIONS = 1000
"""Sessions remembered of one artifact: the first, and the newest."""
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


class _Sidecar(Value, frozen=True):
    """What the file itself cannot say."""

    session_ids: Annotated[tuple[Name, ...], Meta(max_length=MOST_SESSIONS)] = ()
    session_id: Text = ""
    """The only session, in the first form of this file; empty in those written now."""


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
        target = self._folder / artifact_id
        kept = target.exists()
        before = _sessions(target) if kept else ()
        with _refusing_full_disk():
            if not kept or session_id not in before:
                self._write_sidecar(target, _with(before, session_id))
            if not kept:  # the same content may be being read right now
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
        return Artifact(
            artifact_id=path.name,
            size_bytes=stat.st_size,
            media_type=media_type(head),
            create_time=datetime.fromtimestamp(stat.st_mtime, UTC),
            session_ids=_sessions(path),
        )

    def _write_sidecar(self, target: Path, session_ids: tuple[str, ...]) -> None:
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(encode_json(_Sidecar(session_ids)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, _sidecar(target))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _sessions(path: Path) -> tuple[str, ...]:
    """The sessions that made a file; none when its sidecar cannot be read."""
    try:
        sidecar = decode_json(_Sidecar, _sidecar(path).read_bytes())
    except (OSError, Malformed):
        return ()
    return sidecar.session_ids or ((sidecar.session_id,) if sidecar.session_id else ())


def _with(session_ids: tuple[str, ...], newest: str) -> tuple[str, ...]:
    """One session more; of very many, the second is forgotten."""
    kept = (
        session_ids if len(session_ids) < MOST_SESSIONS else session_ids[:1] + session_ids[2:]
    )
    return (*kept, newest)


@contextlib.contextmanager
def _refusing_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull from error
        raise
