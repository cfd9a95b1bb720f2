"""What the model domain needs from outside its pure core."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from domains.model.types import Scan


class ModelScanner(Protocol):
    """Looks through the configured roots."""

    def scan(self) -> Scan:
        """Every model in the roots, each with a unique id, usable or with its problem.

        Reads headers and small files only, but may take seconds: call it off the loop.
        Never raises for what it finds on disk. One call at a time.
        """
        ...


class NewModel(Protocol):
    """A model in the making: a hidden folder in a root, until it is published."""

    @property
    def folder(self) -> Path:
        """Where its files are written."""
        ...

    def publish(self, name: str) -> None:
        """Give what has that name in the folder, or else the folder, its place at once.

        Raises:
            NameTaken: Something of that name lies there.
            OSError: It cannot be moved.
        """
        ...

    def discard(self) -> None:
        """Remove what is left of it; never raises."""
        ...


class NewModels(Protocol):
    """Begins models in the roots. Every method blocks on the disk."""

    def begin(self, near: Path | None = None) -> NewModel:
        """Begin a model in the root `near`, or in the first that can be written.

        Raises:
            NoWritableRoot: There is none.
            OSError: The folder cannot be made.
        """
        ...


class ImportDisk(Protocol):
    """What an import does on the disk. Every method blocks on it but `id_of`."""

    def id_of(self, name: str) -> str:
        """The id of a model that is called so, where it is the only one."""
        ...

    def free_bytes(self, folder: Path) -> int:
        """What is free there, as far as this user may fill it."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those it lies in; one that is there is fine."""
        ...

    def create(self, path: Path) -> BinaryIO:
        """An empty file of that name, which is not there yet."""
        ...

    def settle(self, file: BinaryIO) -> None:
        """Have a file's bytes on the disk."""
        ...

    def sync(self, folder: Path) -> None:
        """Have the names in a folder and below on the disk."""
        ...

    def look(self, folder: Path) -> Scan:
        """What the catalogue would list if this folder were a root."""
        ...
