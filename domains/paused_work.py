"""What paused work goes on from, as files; nothing of them outlives the server.

A file is a value as MessagePack behind a mark and a SHA-256. Whoever reads one gets back a
value of the declared type and bounds, or hears why not.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import uuid
from pathlib import Path
from typing import TypeVar

from domains.codec import Malformed, decode, encode
from domains.private_folders import empty, prepare
from domains.regular_files import TooLong, read_regular
from domains.whole_files import whole_file

_MARK = b"deviceops paused 1\n"
_DIGEST_BYTES = 32
# Beside them what a crash may have left of writing one.
_NAME = re.compile(r"[0-9a-f]{32}\.paused(\.\w{8}\.part)?\Z")
_log = logging.getLogger("deviceops.files")

T = TypeVar("T")


class NotKept(Exception):
    """Work cannot be kept, or what was kept is no good; the text says why."""


class PausedFolder:
    """Implements the port `PausedFiles` of sessions.

    Args:
        folder: Belongs to this server alone; workers make it when they write there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        try:
            prepare(self._folder)
            empty(self._folder, _NAME)
        except OSError as error:
            _log.warning("the folder of paused work could not be swept: %s", error)

    def new(self) -> Path:
        return self._folder / f"{uuid.uuid4().hex}.paused"

    def remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()


def write_kept(path: Path, value: object, most: int) -> None:
    """Have a value at `path`; when it raises, what lay there before is there still.

    Args:
        path: Where.
        value: What the codec can encode.
        most: Bytes that it may have.

    Raises:
        NotKept: It has more, or the disk refuses.
    """
    body = encode(value)
    if len(body) > most:
        raise NotKept(f"it has {len(body)} bytes")
    try:
        prepare(path.parent)
        with whole_file(path) as file:
            file.write(_MARK)
            file.write(hashlib.sha256(body).digest())
            file.write(body)
    except OSError as error:
        raise NotKept(f"its file cannot be written: {error.strerror}") from error


def read_kept(path: Path, kind: type[T], most: int) -> T:
    """The value at `path`, written with the same bound.

    Raises:
        NotKept: There is none, it is damaged, or of another type.
    """
    start = len(_MARK) + _DIGEST_BYTES
    try:
        content = read_regular(path, start + most)
    except (OSError, TooLong) as error:
        raise NotKept("its file is gone, or is not one that was written here") from error
    body = content[start:]
    if content[:start] != _MARK + hashlib.sha256(body).digest():
        raise NotKept("its file is damaged")
    try:
        return decode(kind, body)
    except Malformed as error:
        raise NotKept("its file is damaged") from error
