"""Opening what lies in a model root, and nothing else.

What is judged is the file that is opened, so it does not matter what becomes of its name
between a look and an opening, or between a scan and a load. Only regular files are opened,
and opening one never waits: a named pipe, a device or a folder is refused.

Hard links are files of the root like any other: nothing distinguishes them.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from domains.model.errors import PathOutsideRoot

# What a file or its name is to blame for. Everything else is the machine's doing and says
# nothing about the file: too many open files, a bad disk, a file server that went away.
_OF_THE_FILE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM, errno.ENXIO, errno.EINVAL, errno.EILSEQ),
    }
)
_OPENS_BY_DESCRIPTOR = os.open in os.supports_dir_fd
_NO_NAMES = frozenset({"", os.curdir, os.pardir})


class Spot(NamedTuple):
    """Something in a root: where it really lies, links followed, and what it is."""

    inside: tuple[str, ...]
    state: os.stat_result


class Listing(NamedTuple):
    """A folder's own state, and the names in it, links not followed, in order of name."""

    state: os.stat_result
    entries: list[tuple[str, os.stat_result]]


class Root(Protocol):
    """One model root. Each call reaches its place anew and leaves nothing open.

    A place is given as names from the root on. Every method raises `PathOutsideRoot` where
    a link leads out of the root, and OSError where the place cannot be reached.
    """

    @property
    def path(self) -> Path:
        """Where the root really lies."""
        ...

    def find(self, *inside: str) -> Spot:
        """What lies at a place, without opening it."""
        ...

    def open(self, *inside: str) -> io.FileIO:
        """The regular file at a place, for reading, without a buffer."""
        ...

    def list(self, *inside: str, most: int) -> Listing:
        """What lies in a folder; of more than `most`, as many and one more."""
        ...


def open_root(path: Path) -> Root:
    """The root at `path`, which may itself be a link: the operator made that one."""
    if _OPENS_BY_DESCRIPTOR:
        from domains.model.backends.descriptor_root import DescriptorRoot

        return DescriptorRoot(path)
    from domains.model.backends.handle_root import HandleRoot, final_path

    return HandleRoot(path, final_path)


def is_of_the_file(error: OSError) -> bool:
    """Whether the file itself is to blame, and not the machine at this moment."""
    return error.errno in _OF_THE_FILE


def check_names(inside: tuple[str, ...]) -> None:
    """Refuse what is not one name each; nothing that a scan found is refused here."""
    for name in inside:
        if name in _NO_NAMES or os.sep in name or (os.altsep and os.altsep in name):
            raise PathOutsideRoot


def check_regular(state: os.stat_result) -> None:
    """Refuse a folder, a pipe, a socket or a device where a file is to be read."""
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.ENXIO, "not a regular file")


def opened(descriptor: int) -> io.FileIO:
    """The file of a descriptor just opened, which may not be what was looked at before."""
    file = io.FileIO(descriptor, "r")
    try:
        check_regular(os.fstat(descriptor))
    except OSError:
        file.close()
        raise
    return file


def listing(state: os.stat_result, entries: Iterable[os.DirEntry[str]], most: int) -> Listing:
    """The answer of `Root.list`, without what vanishes meanwhile."""
    found = []
    for entry in islice(entries, most + 1):
        try:
            found.append((entry.name, entry.stat(follow_symlinks=False)))
        except FileNotFoundError:
            continue
    return Listing(state, sorted(found, key=lambda pair: pair[0]))
