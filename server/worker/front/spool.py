"""Finished pictures on their way from a worker to the front, as files.

Each worker writes into a folder of its own. The front checks what is announced and moves
it into its own folder before anybody uses it: what lies in a worker's folder is the
worker's, and goes when the worker goes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from domains import failpoints
from domains.errors import Reason, Unavailable
from domains.picture_files import NoPicture, measure
from domains.private_folders import empty, prepare
from domains.regular_files import open_regular
from domains.session.jobs import SpooledImage
from domains.session.types import ImageResult
from domains.shortages import shortage_of
from domains.whole_files import replace
from server.worker.link.frames import ProtocolError
from server.worker.link.pictures import file_name

_ACCEPTED = "accepted"
# What this server and its workers write; anything else is not theirs, and left alone.
_OF_A_WORKER = re.compile(r"worker-[a-z0-9_-]+-[0-9]+\Z")
_PICTURE = re.compile(r"[0-9a-f-]{1,64}\.(png|jpeg|webp|avif)(\.\w{8})?(\.part)?\Z")

_log = logging.getLogger("deviceops.files")


class Spool:
    """The pictures of every worker. Every method blocks on the disk.

    Args:
        folder: Belongs to this server alone; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        """Delete the pictures that earlier processes left; no worker may be running.

        A disk that refuses is logged: each folder is made again when it is used.
        """
        try:
            prepare(self._folder)
            prepare(self._folder / _ACCEPTED)
            for folder in self._folder.iterdir():
                if folder.name == _ACCEPTED or _OF_A_WORKER.match(folder.name):
                    empty(folder, _PICTURE)
        except OSError as error:
            _log.warning("the spool folder could not be swept: %s", error)

    def folder_of(self, device_id: str) -> Path:
        """The folder of that device's worker, emptied; its last worker is dead.

        On a full disk it may not be there yet: the worker makes it when it writes.

        Raises:
            OSError: It cannot be made or emptied for another reason.
        """
        path = self._folder / f"worker-{device_id.replace(':', '-')}"
        try:
            prepare(path)
            empty(path, _PICTURE)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _log.warning("the spool folder of %s is not ready: %s", device_id, error)
        return path

    def accept(self, folder: Path, epoch: int, image: ImageResult) -> SpooledImage:
        """Check an announced picture and take it over.

        Args:
            folder: Of the worker that announced it.
            epoch: Of the run that it belongs to.
            image: What was announced.

        Raises:
            ProtocolError: There is no such file, or it is not what was announced.
            Unavailable: STORAGE_UNAVAILABLE: the folders are not there or cannot be used,
                which is not the worker's fault.
            ResourceExhausted: The front has no more of something that it needs.
        """
        if image.withheld:
            return SpooledImage(image, None)
        path = folder / file_name(epoch, image)
        with _opened(path) as handle:
            if os.fstat(handle).st_size != image.size_bytes:
                raise ProtocolError("a picture's file has another size than announced")
            with open(handle, "rb", closefd=False) as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
                if digest != image.artifact_id:
                    raise ProtocolError("a picture's file has another hash than announced")
                _check_content(content, image)
        accepted = self._folder / _ACCEPTED / f"{uuid4().hex}{path.suffix}"
        try:
            prepare(accepted.parent)
            replace(path, accepted)
            failpoints.reach("picture.taken-over")
        except FileNotFoundError as error:
            raise _gone(folder, "a picture's file went away") from error
        except OSError as error:
            _log.error("a picture cannot be taken over: %s", error)
            raise shortage_of(error) or _unusable() from error
        return SpooledImage(image, accepted)


def _check_content(content: BinaryIO, image: ImageResult) -> None:
    try:
        found = measure(content, image.size_bytes)
    except NoPicture:
        raise ProtocolError("a picture's file is no picture") from None
    if found != (image.format, image.width, image.height):
        raise ProtocolError("a picture's file is another picture than announced")


def discard(image: SpooledImage) -> None:
    """Delete a picture that nobody takes; one that the disk does not let go stays until the
    next start."""
    if image.path is None:
        return
    try:
        image.path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("a picture that nobody takes cannot be deleted: %s", error)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        handle = open_regular(path)
    except OSError as error:
        gone = _gone(path.parent, "an announced picture cannot be opened")
        raise shortage_of(error) or gone from error
    try:
        yield handle
    finally:
        os.close(handle)


def _gone(folder: Path, why: str) -> Exception:
    """What a picture's absence means: the worker's fault, unless its whole folder is gone."""
    return ProtocolError(why) if folder.is_dir() else _unusable()


def _unusable() -> Unavailable:
    return Unavailable(
        "The picture was drawn and its file could not be taken over; the server's log says"
        " why. Draw it again.",
        reason=Reason.STORAGE_UNAVAILABLE,
        retry_after=1.0,
    )
