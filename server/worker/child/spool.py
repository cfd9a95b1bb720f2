"""Finished pictures on their way to the front, as files in this worker's folder."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from domains import failpoints
from domains.errors import Reason, Unavailable
from domains.private_folders import prepare
from domains.session.jobs import EncodedImage
from domains.session.types import ImageResult
from domains.shortages import shortage_of
from domains.values import PictureMarks
from domains.whole_files import begin_sync, whole_file
from server.worker.link.pictures import file_name

_log = logging.getLogger(__name__)


def put(folder: Path, epoch: int, image: EncodedImage) -> ImageResult:
    """Have the picture's complete file there, or none; returns what to announce. One that is
    withheld has none.

    Whoever keeps it brings it to the disk before anybody is told, and nobody else: the system
    tells a disk's error once, to who syncs first.

    A folder that was deleted is made again.

    Raises:
        ResourceExhausted: DISK_FULL, or another shortage; nothing of it is left.
        Unavailable: STORAGE_UNAVAILABLE: the folder cannot be used; nothing of it is left.
    """
    result = ImageResult(
        image_index=image.image_index,
        seed=image.seed,
        artifact_id=hashlib.sha256(image.data).hexdigest() if image.data else "",
        format=image.format,
        width=image.width,
        height=image.height,
        size_bytes=len(image.data),
        safety=image.safety,
        provenance=PictureMarks(watermark=image.watermark),
    )
    if result.withheld:
        return result
    path = folder / file_name(epoch, result)
    try:
        prepare(path.parent)
        with whole_file(path, synced=False) as file:
            file.write(image.data)
            begin_sync(file)
        failpoints.reach("worker.picture-written")  # and not announced
    except OSError as error:
        shortage = shortage_of(error)
        if shortage is not None:
            raise shortage from error
        _log.error("a picture's file cannot be written: %s", error)
        raise Unavailable(
            "The picture was drawn and its file could not be written; the server's log says"
            " why.",
            reason=Reason.STORAGE_UNAVAILABLE,
        ) from error
    return result
