"""Finished pictures on their way from a worker to the front, as files.

Each worker writes into a folder of its own. The front checks what is announced and moves
it into its own folder before anybody uses it: what lies in a worker's folder is the
worker's, and goes when the worker goes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from domains.session.jobs import SpooledImage
from domains.session.types import ImageResult
from domains.shortages import shortage_of
from server.worker.front.picture_files import NoPicture, measure
from server.worker.link.frames import ProtocolError
from server.worker.link.pictures import file_name

_ACCEPTED = "accepted"
# Not there on Windows, where neither following links nor pipes in a folder are an issue
# without extra rights.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


class Spool:
    """The pictures of every worker. Every method blocks on the disk.

    Args:
        folder: Belongs to this server alone; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        """Delete everything that earlier processes left; no worker may be running."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            _delete(path)
        (self._folder / _ACCEPTED).mkdir(mode=0o700)

    def folder_of(self, device_id: str) -> Path:
        """The folder of that device's worker, emptied; its last worker is dead."""
        path = self._folder / f"worker-{device_id.replace(':', '-')}"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in path.iterdir():
            _delete(leftover)
        return path

    def accept(self, folder: Path, epoch: int, image: ImageResult) -> SpooledImage:
        """Check an announced picture and take it over.

        Args:
            folder: Of the worker that announced it.
            epoch: Of the run that it belongs to.
            image: What was announced.

        Raises:
            ProtocolError: There is no such file, or it is not what was announced.
            OSError: The front has no more of something that it needs.
        """
        path = folder / file_name(epoch, image)
        with _opened(path) as handle:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size != image.size_bytes:
                raise ProtocolError("a picture's file has another size than announced")
            with open(handle, "rb", closefd=False) as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
                if digest != image.artifact_id:
                    raise ProtocolError("a picture's file has another hash than announced")
                _check_content(content, image)
        accepted = self._folder / _ACCEPTED / f"{uuid4().hex}{path.suffix}"
        try:
            os.replace(path, accepted)
        except OSError as error:
            if shortage_of(error) is not None:
                raise
            raise ProtocolError("a picture's file went away") from error
        return SpooledImage(image, accepted)


def _check_content(content: BinaryIO, image: ImageResult) -> None:
    try:
        found = measure(content, image.size_bytes)
    except NoPicture:
        raise ProtocolError("a picture's file is no picture") from None
    if found != (image.format, image.width, image.height):
        raise ProtocolError("a picture's file is another picture than announced")


def discard(image: SpooledImage) -> None:
    """Delete a picture that nobody takes."""
    image.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        handle = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if shortage_of(error) is not None:
            raise  # it is not the worker's fault
        raise ProtocolError("an announced picture cannot be opened") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _delete(path: Path) -> None:
    """A file, a link, or a folder with what is in it; never through a link."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for inside in path.iterdir():
        _delete(inside)
    path.rmdir()
