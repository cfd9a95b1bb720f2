"""Files that are opened only when they are regular, so that nothing hangs or leads elsewhere.

Under the name of a file there may lie a pipe, a device, a socket, a folder or a link. What is
judged is what was opened, not what lay there a moment before.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# Not there on Windows, where neither following links nor pipes in a folder are an issue
# without extra rights.
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class NotRegular(OSError):
    """It is no regular file."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "It is no regular file", str(path))


class TooLong(ValueError):
    """A file has more bytes than a file of its kind can have."""


def open_regular(
    path: Path, flags: int = os.O_RDONLY, mode: int = 0o600, *, follow: bool = False
) -> int:
    """A descriptor of the regular file at `path`; never waits for a pipe.

    Args:
        path: Where it lies.
        flags: As for `os.open`; with O_CREAT an empty file is made where nothing lies.
        mode: Of a file that is made.
        follow: Whether the last part of `path` may be a link.

    Raises:
        FileNotFoundError: There is nothing.
        NotRegular: It is a folder, a pipe, a device, a socket, or a link.
        OSError: It cannot be opened.
    """
    try:
        # Before opening as well: opening alone already does something to a device.
        _refuse_others(path, os.stat(path, follow_symlinks=follow))
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    handle = os.open(path, flags | _FLAGS | (0 if follow else _NO_LINK), mode)
    try:
        _refuse_others(path, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_regular(path: Path, most: int, *, follow: bool = False) -> bytes:
    """The whole content of a small file.

    Args:
        path: Where it lies.
        most: Bytes that a file of its kind has at most.
        follow: As for `open_regular`.

    Raises:
        TooLong: It has more than `most` bytes.
        OSError: As `open_regular`, or it cannot be read.
    """
    with open(open_regular(path, follow=follow), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise TooLong(f"more than {most} bytes")
    return content


def _refuse_others(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular(path)
