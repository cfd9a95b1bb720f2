"""A root whose files are opened by path and judged by where the opened file says it lies.

For Windows, which cannot open relative to a folder. Here the system resolves a link before
it is refused; nothing is read from what it leads to.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from domains.model.backends.confinement import (
    Listing,
    Spot,
    check_names,
    check_regular,
    listing,
    opened,
)
from domains.model.errors import PathOutsideRoot

_FILE = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)


class HandleRoot:
    """See `Root`.

    Args:
        path: The folder; it may itself be a link.
        final_path: Where the file of an open descriptor lies.
    """

    def __init__(self, path: Path, final_path: Callable[[int], Path]) -> None:
        self.path = Path(os.path.realpath(path))
        self._final_path = final_path

    def find(self, *inside: str) -> Spot:
        """See `Root`."""
        check_names(inside)
        path = Path(os.path.realpath(self.path.joinpath(*inside)))
        return Spot(self._inside(path), os.stat(path, follow_symlinks=False))

    def open(self, *inside: str) -> io.FileIO:
        """See `Root`."""
        spot = self.find(*inside)
        check_regular(spot.state)
        file = opened(os.open(self.path.joinpath(*spot.inside), _FILE))
        try:
            self._inside(self._final_path(file.fileno()))
        except BaseException:
            file.close()
            raise
        return file

    def list(self, *inside: str, most: int) -> Listing:
        """See `Root`."""
        spot = self.find(*inside)
        with os.scandir(self.path.joinpath(*spot.inside)) as entries:
            return listing(spot.state, entries, most)

    def _inside(self, path: Path) -> tuple[str, ...]:
        if not path.is_relative_to(self.path):
            raise PathOutsideRoot
        return path.relative_to(self.path).parts


def final_path(descriptor: int) -> Path:
    """Where the file of an open descriptor lies, as Windows knows it."""
    if sys.platform != "win32":
        raise OSError("only Windows tells where an open file lies")
    import ctypes
    import msvcrt

    text = ctypes.create_unicode_buffer(1 << 15)
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
    length = ctypes.windll.kernel32.GetFinalPathNameByHandleW(handle, text, len(text), 0)
    if not 0 < length < len(text):
        raise ctypes.WinError()
    # The same form as that of `os.path.realpath`.
    path = text.value.removeprefix("\\\\?\\")
    return Path(f"\\\\{path[4:]}" if path.startswith("UNC\\") else path)
