"""Finished pictures on their way to the front, as files in this worker's folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path

from domains.errors import Reason, ResourceExhausted
from domains.session.jobs import EncodedImage
from domains.session.types import ImageResult
from server.worker.link.pictures import file_name

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def put(folder: Path, epoch: int, image: EncodedImage) -> ImageResult:
    """Have the picture's complete file on disk, or none; returns what to announce.

    Raises:
        ResourceExhausted: DISK_FULL; nothing of it is left.
        OSError: Something worse; nothing of it is left.
    """
    result = ImageResult(
        image_index=image.image_index,
        seed=image.seed,
        artifact_id=hashlib.sha256(image.data).hexdigest(),
        format=image.format,
        width=image.width,
        height=image.height,
        size_bytes=len(image.data),
    )
    try:
        _write(folder, file_name(epoch, result), image.data)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise ResourceExhausted(
            "The disk is full; the picture could not be kept.", reason=Reason.DISK_FULL
        ) from error
    return result


def _write(folder: Path, name: str, data: bytes) -> None:
    part = folder / f"{name}.part"
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, folder / name)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
