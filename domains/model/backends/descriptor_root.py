"""A root whose files are opened relative to descriptors, where the system can do that.

A place is reached from the opened root on, one name after another, each relative to the
folder opened before it. The system follows no link: a link's target is put in the link's
place here, and has to lie in the root as well.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from domains.model.backends.confinement import (
    Listing,
    Spot,
    check_names,
    check_regular,
    listing,
    opened,
)
from domains.model.errors import PathOutsideRoot

_MAX_LINKS = 40


def _flags(*names: str) -> int:
    """Flags by name: not every system's module has all of them."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


_FOLDER = _flags("O_RDONLY", "O_DIRECTORY", "O_CLOEXEC")
_NO_LINK = _flags("O_NOFOLLOW")
_FILE = _flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC")


class DescriptorRoot:
    """See `Root`.

    Args:
        path: The folder; it may itself be a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        # Links may name it by either.
        self._paths = (self.path, Path(os.path.abspath(path)))

    def find(self, *inside: str) -> Spot:
        """See `Root`."""
        with self._reached(inside) as (_, spot):
            return spot

    def open(self, *inside: str) -> io.FileIO:
        """See `Root`."""
        with self._reached(inside) as (folder, spot):
            check_regular(spot.state)
            return opened(os.open(spot.inside[-1], _FILE, dir_fd=folder))

    def list(self, *inside: str, most: int) -> Listing:
        """See `Root`."""
        with self._reached(inside) as (folder, spot):
            name = spot.inside[-1] if spot.inside else os.curdir
            descriptor = os.open(name, _FOLDER | _NO_LINK, dir_fd=folder)
        try:
            with os.scandir(descriptor) as entries:
                return listing(os.fstat(descriptor), entries, most)
        finally:
            os.close(descriptor)

    @contextmanager
    def _reached(self, inside: tuple[str, ...]) -> Iterator[tuple[int, Spot]]:
        """The opened folder that a place really lies in, and what lies there."""
        check_names(inside)
        root = os.open(self.path, _FOLDER)
        folders = [root]
        try:
            start = folder, spot = root, Spot((), os.fstat(root))
            pending, links = [*inside], 0
            while pending:
                name = pending.pop(0)
                state = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(state.st_mode):
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    target = os.readlink(name, dir_fd=folder)
                    pending = [*self._target(spot.inside, target), *pending]
                    folder, spot = start
                    continue
                spot = Spot((*spot.inside, name), state)
                if pending:
                    folder = os.open(name, _FOLDER | _NO_LINK, dir_fd=folder)
                    folders.append(folder)
            yield folder, spot
        finally:
            for folder in folders:
                os.close(folder)

    def _target(self, folder: tuple[str, ...], link: str) -> tuple[str, ...]:
        """Where in the root a link that lies in `folder` leads, by its text alone: what
        lies outside is not even looked at."""
        path = PurePath(os.path.normpath(self.path.joinpath(*folder, link)))
        for root in self._paths:
            if path.is_relative_to(root):
                return path.relative_to(root).parts
        raise PathOutsideRoot
