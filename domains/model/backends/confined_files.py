"""The files of one model, opened inside its root and with the reasons clients get.

OSError comes through where the machine is to blame and not the file: what is known about
the model stays true then.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.confinement import Root, Spot, is_of_the_file, open_root
from domains.values import ModelPlace

_MOST_NAMES = 10_000

# Name in the model with slashes, size in bytes, modification time in nanoseconds and number
# on its disk, of each file.
Fingerprint = tuple[tuple[str, int, int, int], ...]


class ConfinedFiles:
    """What lies below a model's place, each named by the path from there with slashes.

    Args:
        place: The model.
        root: Its root, where that is at hand.
    """

    def __init__(self, place: ModelPlace, root: Root | None = None) -> None:
        self.place = place
        self._root = root or open_root(place.root)

    def open(self, name: str = "") -> io.FileIO:
        """A file, for reading, without a buffer; the model's own if it is one.

        Raises:
            FailedPrecondition: MODEL_INCOMPLETE, where there is no such file or it cannot
                be read.
            PathOutsideRoot: It is a link that leads outside the root.
        """
        with _reasons(name):
            return self._root.open(*self._inside(name))

    def read(self, name: str, most: int) -> bytes:
        """A file's bytes; of one with more than `most`, as many and one more.

        Raises: As `open`.
        """
        with self.open(name) as file, io.BufferedReader(file) as buffered:
            return buffered.read(most + 1)

    def has_file(self, name: str) -> bool:
        """Whether there is a file of that name.

        Raises:
            PathOutsideRoot: There is a link that leads outside the root.
        """
        spot = self._find(name)
        return spot is not None and stat.S_ISREG(spot.state.st_mode)

    def has_folder(self, name: str = "") -> bool:
        """Whether there is a folder of that name; the model itself is one too.

        Raises:
            PathOutsideRoot: There is a link that leads outside the root.
        """
        spot = self._find(name)
        return spot is not None and stat.S_ISDIR(spot.state.st_mode)

    def exists(self) -> bool:
        """Whether the model is still there."""
        return self._find("") is not None

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in order; none where there is no such folder.

        Raises:
            FailedPrecondition: MODEL_INCOMPLETE, where it cannot be read.
            PathOutsideRoot: It is a link that leads outside the root.
        """
        if not self.has_folder(folder):
            return []
        with _reasons(folder):
            listed = self._root.list(*self._inside(folder), most=_MOST_NAMES)
        return [name for name, _ in listed.entries]

    def fingerprint(self, folders: Iterable[str]) -> Fingerprint:
        """The files in these folders; two equal ones mean that nothing was changed.

        Raises: As `names`.
        """
        return self.states(
            f"{folder}/{name}".lstrip("/") for folder in folders for name in self.names(folder)
        )

    def states(self, names: Iterable[str]) -> Fingerprint:
        """Those of `names` that are files; see `fingerprint`.

        Raises:
            PathOutsideRoot: One is a link that leads outside the root.
        """
        spots = ((name, self._find(name)) for name in names)
        return tuple(
            file_state(name, spot.state)
            for name, spot in spots
            if spot is not None and stat.S_ISREG(spot.state.st_mode)
        )

    def _inside(self, name: str) -> tuple[str, ...]:
        return (*self.place.inside.parts, *filter(None, name.split("/")))

    def _find(self, name: str) -> Spot | None:
        try:
            return self._root.find(*self._inside(name))
        except OSError as error:
            if is_of_the_file(error):
                return None
            raise


def file_state(name: str, state: os.stat_result) -> tuple[str, int, int, int]:
    """A file's part of a fingerprint."""
    return name, state.st_size, state.st_mtime_ns, state.st_ino


@contextmanager
def _reasons(name: str) -> Iterator[None]:
    """The file's own faults as the reason that the model cannot be used."""
    try:
        yield
    except FileNotFoundError as error:
        raise _incomplete(name, "is missing; fetch it again") from error
    except OSError as error:
        if not is_of_the_file(error):
            raise
        raise _incomplete(name, "cannot be read") from error


def _incomplete(name: str, what: str) -> FailedPrecondition:
    subject = f"The model's {name}" if name else "The model's file"
    return FailedPrecondition(
        f"{subject} {what}.",
        reason=Reason.MODEL_INCOMPLETE,
        metadata={"missing": name} if name else {},
    )
