"""Things that may lie where a file or a folder is expected: made by tests, named for them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path


def pipe(path: Path) -> None:
    """A named pipe that nobody writes to."""
    os.mkfifo(path)


def listening_socket(path: Path) -> None:
    """A socket's file; its path may be longer than a socket's address can be."""
    with socket.socket(socket.AF_UNIX) as made:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def dangling_link(path: Path) -> None:
    """A link to nothing."""
    path.symlink_to(path.with_name("nowhere"))


def link_to_itself(path: Path) -> None:
    """A link that never ends."""
    path.symlink_to(path.name)


def link_outside(path: Path) -> None:
    """A link to a file of somebody else's that must be left as it is."""
    path.symlink_to("/etc/passwd")


def folder(path: Path) -> None:
    """A folder with something in it."""
    path.mkdir()
    (path / "holiday.png").write_bytes(b"mine")


def device(path: Path) -> None:
    """A link to a device that never ends."""
    path.symlink_to("/dev/zero")


ODD: Mapping[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (
        pipe,
        listening_socket,
        dangling_link,
        link_to_itself,
        link_outside,
        folder,
        device,
    )
}
"""Every kind that is no regular file, by name."""
