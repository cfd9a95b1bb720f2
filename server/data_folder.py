"""The data folder while a server runs: there, private, and held against a second server."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from domains.private_folders import PRIVATE, FolderRefused, make_private, prepare
from domains.set_aside import is_aside
from server.config import Settings
from server.lock import NAME as LOCK_NAME
from server.lock import FolderLock

_ADVICE = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some of your quota",
    errno.EROFS: "its disk takes no changes",
    errno.EACCES: "give it to the server's user",
    errno.EPERM: "give it to the server's user",
    errno.ENOLCK: "its file system gives no locks, so choose another with --data-dir",
}

_log = logging.getLogger("deviceops.files")


@contextlib.contextmanager
def held(settings: Settings) -> Iterator[None]:
    """Lock the data folder and prepare what is in it.

    What is missing is made, what is open to others is closed, what is no folder where one
    of this server's own should be is set aside.

    Raises:
        FolderRefused: A folder cannot be used; the message says which, why, and what to do.
        FolderInUse: Another server holds the folder.
    """
    with _in_a_sentence(settings.data_dir):
        _prepare_data_folder(settings.data_dir)
        lock = FolderLock(settings.data_dir)
    try:
        with _in_a_sentence(settings.data_dir):
            _prepare_runtime_folder(settings)
            if settings.own_models in settings.model_roots:
                settings.own_models.mkdir(exist_ok=True)
            for folder in own_folders(settings):
                prepare(folder)
        yield
    finally:
        lock.release()


def prepare_runtime_folder(settings: Settings) -> None:
    """Have the runtime folder there, and closed to others, also while no server runs.

    Raises:
        FolderRefused: It cannot be used; the message says why, and what to do.
    """
    with _in_a_sentence(settings.runtime_dir):
        _named(settings.data_dir, "--data-dir")
        _prepare_runtime_folder(settings)


def own_folders(settings: Settings) -> tuple[Path, ...]:
    """The folders whose content is this server's alone; they may be made again at any time."""
    names = ("artifacts", "spool", "thumbnails", "uploads")
    return tuple(settings.data_dir / name for name in names)


def aside_in(names: Iterable[str]) -> list[str]:
    """Those of these names that belong to what was of no use and is kept."""
    return [name for name in names if is_aside(name)]


@contextlib.contextmanager
def _in_a_sentence(folder: Path) -> Iterator[None]:
    try:
        yield
    except FolderRefused:
        raise
    except OSError as error:
        where = error.filename or folder
        why = error.strerror or type(error).__name__
        advice = _ADVICE.get(error.errno or 0, "")
        raise FolderRefused(
            f"{where} cannot be used: {why}{'; ' if advice else ''}{advice}."
        ) from None


def _prepare_data_folder(folder: Path) -> None:
    """The operator named it: a link to it is followed.

    Another owner is no reason against it: in a container it often belongs to the system, or
    to a user outside.
    """
    status = _named(folder, "--data-dir")
    if sys.platform == "win32":
        return
    if status.st_uid == os.geteuid() and _was_own(folder, LOCK_NAME):
        make_private(folder, status)
    elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise FolderRefused(
            f"Every user can write to the data folder {folder}: close it to others (chmod 700),"
            " or choose another with --data-dir."
        )
    elif status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("others can enter the data folder; chmod 700 closes it to them")


def _prepare_runtime_folder(settings: Settings) -> None:
    """Who can write to it can put a token of their own there."""
    folder = settings.runtime_dir
    status = _named(folder, "--runtime-dir")
    if sys.platform == "win32":
        return
    inside = settings.data_dir in folder.parents
    if inside or _was_own(folder, settings.token_path.name) or status.st_uid != os.geteuid():
        make_private(folder, status)
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FolderRefused(
            f"Other users can write to the folder {folder}, where the access token is kept:"
            " close it to them (chmod 700), or choose another with --runtime-dir."
        )


def _named(folder: Path, flag: str) -> os.stat_result:
    """The status of a folder that a setting names, made when nothing is there."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE, parents=True)
    try:
        status = folder.stat()
    except OSError:  # a link to nothing, or to itself
        status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise FolderRefused(
            f"{folder} is no folder: move it away, or choose another place with {flag}."
        )
    return status


def _was_own(folder: Path, sign: str) -> bool:
    """Whether a folder was this server's before, or is empty: then its mode may be changed."""
    names = os.listdir(folder)
    return not names or sign in names
