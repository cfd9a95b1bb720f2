"""Looking at the folders of a root: within bounds, and with a word on what is left out."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from domains.model.backends.confinement import Root, Spot, is_of_the_file
from domains.model.errors import PathOutsideRoot

_MAX_ENTRIES = 100_000
_MAX_FOLDER_ENTRIES = 20_000

Entries = list[tuple[str, os.stat_result]]


class Remark(NamedTuple):
    """What was left out and why, in a sentence without paths, and where it lies."""

    sentence: str
    path: Path


class Refused(Exception):
    """Something is not taken, on which a remark was made."""


class Item(NamedTuple):
    """Something in a root: its names as one came there, where it really lies, and where the
    name lies by which one came, which may be a link's."""

    shown: tuple[str, ...]
    spot: Spot
    entry: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """The same for the same thing, whichever way leads to it."""
        return self.spot.state.st_dev, self.spot.state.st_ino

    @property
    def name(self) -> str:
        """Its name as the operator knows it; empty for the root."""
        return self.shown[-1] if self.shown else ""


class RootLook:
    """The looks of one walk through one root, and what they came upon.

    Args:
        root: What links may not leave.
        start: Where in it the walk begins.

    Attributes:
        remarks: What was left out.
        unread: What the machine could not read, as a place in the root with slashes, the
            root itself as "". What was known to lie there may lie there still.
        folders: Those that were looked into, where they really lie.
    """

    def __init__(self, root: Root, start: tuple[str, ...] = ()) -> None:
        self._root = root
        self._start = start
        self._entries = 0
        self.remarks: list[Remark] = []
        self.unread: list[str] = []
        self.folders: list[Path] = []

    def start(self) -> Item | None:
        """The root, if it can be looked at."""
        try:
            return Item((), self._root.find(*self._start))
        except OSError:
            self.unread.append("")
            self.leave_out((), "A configured model folder is not there.")
            return None

    def follow(
        self, folder: Item, name: str, state: os.stat_result, *, matters: bool = True
    ) -> Item | None:
        """What a name in a folder stands for; None where that is broken or gone, with a
        remark if it `matters`.

        Raises:
            Refused: It leads outside the root, or cannot be read at the moment.
        """
        shown, inside = (*folder.shown, name), (*folder.spot.inside, name)
        if not stat.S_ISLNK(state.st_mode):
            return Item(shown, Spot(inside, state), inside)
        try:
            return Item(shown, self._root.find(*inside), inside)
        except PathOutsideRoot:
            raise self._outside(shown) from None
        except OSError as error:
            if matters or not is_of_the_file(error):
                self._unreadable(shown, f"File {name!r} cannot be read.", error)
            return None

    def list(self, folder: Item) -> Entries | None:
        """What lies in a folder; None where that cannot be read.

        Raises:
            Refused: There is too much in it or in the root, it has become a link that
                leads outside, or it cannot be read at the moment.
        """
        if self._entries > _MAX_ENTRIES:
            raise Refused
        try:
            found = self._root.list(*folder.spot.inside, most=_MAX_FOLDER_ENTRIES).entries
        except PathOutsideRoot:
            raise self._outside(folder.shown) from None
        except OSError as error:
            name = folder.name or "of all models"
            self._unreadable(folder.shown, f"Folder {name!r} cannot be read.", error)
            return None
        if len(found) > _MAX_FOLDER_ENTRIES:
            raise self.refuse(folder.shown, f"Folder {folder.name!r}: too many files.")
        self.folders.append(self._root.path.joinpath(*folder.spot.inside))
        self._entries += len(found)
        if self._entries > _MAX_ENTRIES:
            why = f"Folder {folder.name!r} and others: too many files."
            raise self.refuse(folder.shown, why)
        return found

    def leave_out(self, shown: tuple[str, ...], why: str) -> None:
        """Make a remark: the operator's log names the place, clients see the sentence."""
        self.remarks.append(Remark(why, self._root.path.joinpath(*self._start, *shown)))

    def refuse(self, shown: tuple[str, ...], why: str) -> Refused:
        """Make a remark; the caller raises what it gets."""
        self.leave_out(shown, why)
        return Refused()

    def _outside(self, shown: tuple[str, ...]) -> Refused:
        return self.refuse(
            shown,
            f"{shown[-1]!r} is a link that leads outside its root (PATH_OUTSIDE_ROOT).",
        )

    def _unreadable(self, shown: tuple[str, ...], why: str, error: OSError) -> None:
        self.leave_out(shown, why)
        if not is_of_the_file(error) or not shown:
            self.unread.append("/".join(shown))
            raise Refused
