"""What the model domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from domains.model.types import FileState, Scan
from domains.values import ModelPlace


class ModelScanner(Protocol):
    """Looks through the configured roots."""

    def scan(self) -> Scan:
        """Every model in the roots, each with a unique id, usable or with its problem.

        Reads headers and small files only, but may take seconds: call it off the loop.
        Never raises for what it finds on disk. One call at a time.
        """
        ...


class CacheArena(Protocol):
    """A range of addresses that workers can read; memory is taken where it is written."""

    @property
    def name(self) -> str:
        """What workers open it by."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def memory(self) -> memoryview:
        """All of it."""
        ...

    def give_back(self, offset: int, length: int) -> None:
        """Return whole pages to the system."""
        ...

    def close(self) -> None:
        """Give everything back; nothing may use it any more."""
        ...


class WeightReader(Protocol):
    """Reads models' weight files. Everything blocks: call it off the loop."""

    def files(self, place: ModelPlace) -> tuple[FileState, ...]:
        """The files that hold the weights that work with the model loads.

        Raises:
            FailedPrecondition: The model cannot be used, with any MODEL_ reason.
            PathOutsideRoot: A part of it is a link that leads outside its root.
            OSError: The machine cannot read it at the moment.
        """
        ...

    def unchanged(self, place: ModelPlace, files: Sequence[FileState]) -> bool:
        """Whether these files are on disk as they were."""
        ...

    def read(
        self,
        place: ModelPlace,
        files: Sequence[tuple[FileState, memoryview]],
        on_bytes: Callable[[int], None],
    ) -> None:
        """Read whole files, each to where it belongs.

        Args:
            place: The model.
            files: What to read, and where to.
            on_bytes: Called, in any thread, with the number of bytes after each read; what
                it raises ends the reading and is raised when all has stopped.

        Raises:
            FailedPrecondition: MODEL_TRUNCATED, where a file is not as it was; or as `files`.
            OSError: The machine cannot read it at the moment.
        """
        ...
