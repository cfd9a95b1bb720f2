"""Small pictures on disk: a folder for each artifact, a file for each edge."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from domains.artifact.types import Thumbnail
from domains.limits import LIMITS
from domains.picture_files import NoPicture, measure
from domains.private_folders import prepare
from domains.regular_files import NotRegular, TooLong, read_regular
from domains.values import ImageFileFormat
from domains.whole_files import whole_file

_ARTIFACT = re.compile(r"[0-9a-f]{64}\Z")
_FILE = re.compile(r"[0-9]{2,4}\.webp\Z")
# Of what a crash leaves as well.
_OURS = re.compile(r"[0-9]{2,4}\.webp(\.\w{8}\.part)?\Z")
_LONGEST_BYTES = LIMITS["GetThumbnailResponse.data"].max_bytes or 0
MOST_BYTES = 1 << 28
"""Of all small pictures together; some ten thousand of the usual size."""
_log = logging.getLogger("deviceops.artifacts")


class ThumbnailFolder:
    """Implements `ThumbnailFiles`.

    Args:
        folder: Where they lie; made whenever it is missing.
        most_bytes: Most of all together.
        min_free_bytes: With less than this free on the disk, nothing more is kept.
    """

    def __init__(
        self, folder: Path, *, most_bytes: int = MOST_BYTES, min_free_bytes: int = 0
    ) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._min_free_bytes = min_free_bytes
        self._changing = threading.Lock()

    def sweep(self, artifact_ids: Iterable[str]) -> None:
        known = frozenset(artifact_ids)
        with self._changing:
            for own in _folders(self._folder):
                for path in _files(own, _OURS):
                    if own.name not in known or not _FILE.match(path.name):
                        _delete(path)
                _delete_empty(own)

    def read(self, artifact_id: str, edge_pixels: int) -> Thumbnail | None:
        path = self._path(artifact_id, edge_pixels)
        try:
            data = read_regular(path, _LONGEST_BYTES)
            format, width, height = measure(BytesIO(data), len(data))
        except FileNotFoundError:
            return None
        except (OSError, NotRegular, TooLong, NoPicture):
            _delete(path)
            return None
        if format is not ImageFileFormat.WEBP or max(width, height) > edge_pixels:
            _delete(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # asked for now
        return Thumbnail(data, width, height)

    def keep(self, artifact_id: str, edge_pixels: int, made: Thumbnail) -> None:
        path = self._path(artifact_id, edge_pixels)
        with self._changing:
            try:
                prepare(self._folder)
                if shutil.disk_usage(self._folder).free < self._min_free_bytes:
                    return
                prepare(path.parent)
                with whole_file(path) as file:
                    file.write(made.data)
            except OSError as error:
                _log.warning("a small picture could not be kept: %s", error.strerror or error)
            self._make_room()

    def remove(self, artifact_id: str) -> None:
        with self._changing:
            own = self._folder / artifact_id
            for path in _files(own, _OURS):
                _delete(path)
            _delete_empty(own)

    def _make_room(self) -> None:
        kept = []
        for own in _folders(self._folder):
            for path in _files(own, _FILE):
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    kept.append((status.st_mtime_ns, status.st_size, path))
        used = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if used <= self._most_bytes:
                return
            _delete(path)
            _delete_empty(path.parent)
            used -= size

    def _path(self, artifact_id: str, edge_pixels: int) -> Path:
        return self._folder / artifact_id / f"{edge_pixels}.webp"


def _folders(folder: Path) -> Iterator[Path]:
    """Those of artifacts; nothing through a link."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _ARTIFACT.match(entry.name) and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _files(folder: Path, names: re.Pattern[str]) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if names.match(entry.name) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _delete_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
