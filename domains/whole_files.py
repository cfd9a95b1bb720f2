"""Files that are there whole or not at all, whenever the program or the machine ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

    # Of macOS, whose `fsync` leaves what was written in the disk's own memory: a cut of power
    # empties that.
    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)

# On Windows a file cannot be replaced while another program has it open: whoever reads it, or a
# virus scanner that looks at what is new. They have it for a moment.
_BUSY_SECONDS = 1.0 if sys.platform == "win32" else 0.0
_AGAIN_SECONDS = 0.01

_NOT_DONE = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)
"""What file systems say that cannot do it: some of networks, and of programs."""


@contextlib.contextmanager
def whole_file(target: Path, *, synced: bool = True, named: bool = True) -> Iterator[BinaryIO]:
    """A file to write, closed to other users: at the end it is synced, renamed to `target`, and
    its name synced too.

    Left by an exception, nothing of it stays. What a crash leaves is called
    `<name>.<8 characters>.part`. Without `synced` the machine must not end before somebody
    syncs it and its folder, without `named` before somebody syncs the folder.

    Raises:
        OSError: It cannot be written, or a folder lies at `target`; or it is there, and whether
            its name is on the disk is not known.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if synced:
                sync(file.fileno())
        replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    if synced and named:
        sync_folder(target.parent)


def replace(source: str | Path, target: Path) -> None:
    """Give a file another name, whatever has that one; on Windows once nobody has it open.

    Raises:
        OSError: It cannot be done.
    """
    latest = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if time.monotonic() >= latest:
                raise
        time.sleep(_AGAIN_SECONDS)


def begin_sync(file: BinaryIO) -> None:
    """Have the system begin to bring what was written to the disk, where it can be asked to:
    whoever syncs the file waits less long, and hears of what fails all the same.

    Raises:
        OSError: What was written cannot be handed to the system.
    """
    file.flush()
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sync(handle: int) -> None:
    """Bring what was written through a handle to the disk, where a cut of power leaves it.

    Raises:
        OSError: The disk fails.
    """
    if sys.platform != "win32" and _FULL_SYNC is not None:
        try:
            fcntl.fcntl(handle, _FULL_SYNC)
            return
        except OSError as error:
            if error.errno not in _NOT_DONE:
                raise
    os.fsync(handle)


def sync_file(path: Path) -> None:
    """Bring what a file holds to the disk, whoever wrote it.

    Raises:
        OSError: The disk fails, or there is none.
    """
    with path.open("r+b") as file:  # Windows asks for the right to write
        sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where system and file system can.

    Raises:
        OSError: The disk fails.
    """
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        sync(handle)
    except OSError as error:
        if error.errno not in _NOT_DONE:
            raise
    finally:
        os.close(handle)
