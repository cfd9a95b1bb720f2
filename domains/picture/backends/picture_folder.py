"""Input pictures on disk while work needs them; nothing of them outlives the server."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from domains.errors import Reason, Unavailable
from domains.limits import LIMITS
from domains.picture.jobs import PictureReport
from domains.picture.types import PreparedPicture, bytes_of
from domains.picture_files import NoPicture, measure
from domains.private_folders import empty, prepare
from domains.regular_files import TooLong, open_regular, read_regular
from domains.session.types import ImageResult
from domains.shortages import shortage_of
from domains.values import ImageFileFormat

_NAME = re.compile(
    r"([0-9a-f]{32}\.(source|pixels)|[0-9a-f]{64}\.[0-9a-f]{32}\.(rgba?|grey))\Z"
)
_LARGEST_SMALL_BYTES = LIMITS["GetThumbnailResponse.data"].max_bytes or 0
_log = logging.getLogger("deviceops.files")


class PictureFolder:
    """Implements `PictureFiles`.

    Args:
        folder: Belongs to this server alone; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        try:
            prepare(self._folder)
            empty(self._folder, _NAME)
        except OSError as error:
            _log.warning("the folder of input pictures could not be swept: %s", error)

    def new_source(self) -> Path:
        with _typed():
            prepare(self._folder)
        return self._folder / f"{uuid.uuid4().hex}.source"

    def new_target(self) -> Path:
        path = self._folder / f"{uuid.uuid4().hex}.pixels"
        with _typed():
            os.close(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        return path

    def append(self, path: Path, data: bytes) -> None:
        with (
            _typed(),
            open(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as file,
        ):
            file.write(data)

    def take(self, path: Path, report: PictureReport, *, grey: bool) -> PreparedPicture:
        with _typed():
            with open(open_regular(path), "rb") as file:
                found = os.fstat(file.fileno()).st_size
                size = (report.width, report.height)
                if found != bytes_of(*size, grey=grey, alpha=report.alpha):
                    raise _unusable()
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            ending = "grey" if grey else "rgba" if report.alpha else "rgb"
            kept = self._folder / f"{sha256}.{uuid.uuid4().hex}.{ending}"
            os.replace(path, kept)
        return PreparedPicture(kept, *size, sha256, grey, report.alpha)

    def read_small(self, path: Path, width: int, height: int) -> bytes | None:
        with _typed():
            try:
                data = read_regular(path, _LARGEST_SMALL_BYTES)
                found = measure(BytesIO(data), len(data))
            except (TooLong, NoPicture):
                return None
        return data if found == (ImageFileFormat.WEBP, width, height) else None

    def measure(self, path: Path, expected: PreparedPicture) -> ImageResult:
        with _typed(), open(open_regular(path), "rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            try:
                found = measure(file, size_bytes)
            except NoPicture:
                raise _unusable() from None
            if found != (ImageFileFormat.PNG, expected.width, expected.height):
                raise _unusable()
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return ImageResult(0, None, sha256, *found, size_bytes)

    def remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _typed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _log.error("the folder of input pictures cannot be used: %s", error)
        raise shortage_of(error) or _unusable() from error


def _unusable() -> Unavailable:
    return Unavailable(
        "The picture cannot be stored or read now; the server's log says why.",
        reason=Reason.STORAGE_UNAVAILABLE,
        retry_after=1.0,
    )
