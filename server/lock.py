"""Locks on files, which the operating system drops when their holder dies.

One server holds a data folder for as long as it runs; what changes a file holds a lock beside
it for a moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from domains.regular_files import open_regular

NAME = "server.lock"
_FAR_BYTE = 1 << 30  # Windows locks bytes, and locked bytes cannot be read: not the pid
_WAIT_SECONDS = 10.0
_RELEASE_SECONDS = 2.0
_AGAIN_SECONDS = 0.02
# What the systems say of a lock that is held; some file systems have none to give.
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


class FolderInUse(Exception):
    """Another server holds the folder; `pid` is its process where known, else 0."""

    def __init__(self, folder: Path, pid: int) -> None:
        holder = f"the server with process id {pid}" if pid else "another server"
        super().__init__(f"The data folder {folder} is in use by {holder}.")
        self.pid = pid


class FolderLock:
    """Holds a folder until released or the process ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock; the folder exists.

        Raises:
            FolderInUse: Somebody else holds it.
            OSError: What lies in the lock's place is no regular file, or cannot be opened or
                locked.
        """
        self._descriptor = open_regular(folder / NAME, os.O_RDWR | os.O_CREAT)
        try:
            _lock(self._descriptor)
        except OSError as error:
            holder = os.read(self._descriptor, 20)
            os.close(self._descriptor)
            if error.errno not in _HELD:
                raise
            raise FolderInUse(folder, int(holder) if holder.isdigit() else 0) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds, without a name
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Let the folder go; a disk that does not answer is not waited for, and lets it go with
        the process. The file stays: removing it would race with the next holder."""
        letting_go = threading.Thread(target=self._let_go, name="lock", daemon=True)
        try:
            letting_go.start()
        except RuntimeError:  # the system gives no thread
            self._let_go()
        else:
            letting_go.join(_RELEASE_SECONDS)

    def _let_go(self) -> None:
        with contextlib.suppress(OSError):  # a disk that takes nothing any more
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


@contextlib.contextmanager
def alone(path: Path, wait_seconds: float = _WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock file at `path`, which stays there; the folder exists.

    Raises:
        TimeoutError: Others held it for `wait_seconds`.
        OSError: What lies there is no regular file, or cannot be opened or locked.
    """
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        _lock_within(descriptor, wait_seconds)
        yield
    finally:
        os.close(descriptor)


def _lock_within(descriptor: int, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return _lock(descriptor)
        except OSError as error:
            if error.errno not in _HELD:
                raise
            if time.monotonic() > deadline:
                raise TimeoutError("held by another process") from None
        time.sleep(_AGAIN_SECONDS)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
