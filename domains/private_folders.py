"""Folders of this server's own: made when missing, and closed to everybody else.

What lies in a folder's place and is none is set aside. A folder of another user is refused:
that user could put anything in place of what this server keeps there.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
import sys
from pathlib import Path

from domains.set_aside import set_aside

PRIVATE = 0o700
_log = logging.getLogger("deviceops.files")


class FolderRefused(OSError):
    """A folder cannot be used as it is.

    As text it says why and what to do, in a sentence with the path, for the operator;
    `strerror` is for everybody.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EPERM, "The folder is not the server's own")
        self._sentence = sentence

    def __str__(self) -> str:
        return self._sentence


def prepare(folder: Path) -> None:
    """Have a folder at `folder` that only this user may enter, whatever lies there now.

    Costs two system calls where all is well, so it can be done before each use: a folder
    that was deleted meanwhile is there again.

    Raises:
        FolderRefused: It belongs to another user.
        OSError: It cannot be made.
    """
    try:
        _make(folder)
        return
    except FileExistsError:
        status = folder.lstat()
    if stat.S_ISDIR(status.st_mode):
        make_private(folder, status)
    else:
        set_aside(folder, "it is no folder")
        folder.mkdir(mode=PRIVATE)


def _make(folder: Path) -> None:
    """With what is missing above it, which is private as well: it may be this server's too."""
    try:
        folder.mkdir(mode=PRIVATE)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            _make(folder.parent)
        folder.mkdir(mode=PRIVATE)


def empty(folder: Path, names: re.Pattern[str]) -> None:
    """Delete the files of those names in a folder; nothing through a link, and nothing else.

    Raises:
        OSError: There is nothing, or the disk refuses.
    """
    if not stat.S_ISDIR(folder.lstat().st_mode):
        return
    for path in folder.iterdir():
        if names.match(path.name) and not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink(missing_ok=True)


def make_private(folder: Path, status: os.stat_result) -> None:
    """Let only this user enter a folder that is there.

    On Windows nothing is done: the access list of the user's profile protects it.

    Args:
        folder: The folder.
        status: Of the folder.

    Raises:
        FolderRefused: It belongs to another user.
        OSError: Its mode cannot be changed.
    """
    if sys.platform == "win32":
        return
    if status.st_uid != os.geteuid():
        raise FolderRefused(
            f"The folder {folder} belongs to another user (id {status.st_uid}): give it to the"
            " server's user (chown), or move it away for a new one."
        )
    mode = stat.S_IMODE(status.st_mode) & 0o777
    if mode != PRIVATE:
        os.chmod(folder, PRIVATE)
        _log.warning("%s had mode %o; only its owner may enter it now", folder.name, mode)
