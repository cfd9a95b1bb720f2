"""What the model domain needs from outside its pure core."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

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
        """Give the file of that name in the folder, or else the folder, its place at once.

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

    def begin(self, near: Path) -> NewModel:
        """Begin a model in the root `near`, or in the first that can be written.

        Raises:
            NoWritableRoot: There is none.
            OSError: The folder cannot be made.
        """
        ...
