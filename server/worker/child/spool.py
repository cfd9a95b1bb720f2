"""Finished pictures on their way to the front, as files in this worker's folder."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from domains import failpoints
from domains.errors import Reason, Unavailable
from domains.private_folders import prepare
from domains.session.jobs import EncodedImage
from domains.session.types import ImageResult
from domains.shortages import shortage_of
from domains.values import PictureMarks
from domains.whole_files import whole_file
from server.worker.link.pictures import file_name

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def put(folder: Path, epoch: int, image: EncodedImage) -> Iterator[ImageResult]:
    """Have the picture's complete file there, or none; gives what to announce. One that is
    withheld has none.

    Whoever keeps it brings it to the disk before anybody is told. That is begun here once it
    is announced, so that it is done by then: where open files can be renamed.

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
        yield result
        return
    with contextlib.ExitStack() as opened:
        handle = _written(folder / file_name(epoch, result), image.data, opened)
        yield result
        if handle is not None:
            with contextlib.suppress(OSError):  # who keeps it meets that as well
                os.fsync(handle)


def _written(path: Path, data: bytes, opened: contextlib.ExitStack) -> int | None:
    """Write a file; its handle where it may stay open for now."""
    handle = None
    try:
        prepare(path.parent)
        with whole_file(path, synced=False) as file:
            file.write(data)
            if os.name == "posix":
                handle = os.dup(file.fileno())
                opened.callback(os.close, handle)
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
    return handle
