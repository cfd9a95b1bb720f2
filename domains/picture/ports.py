"""What input pictures need from outside their pure core."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from domains.artifact.types import Artifact
from domains.clients import Caller
from domains.picture.jobs import PictureReport
from domains.picture.types import PreparedPicture
from domains.session.types import ImageResult


class PictureFiles(Protocol):
    """Where pictures lie while work needs them. Every method blocks on the disk.

    Those that say no other raise Unavailable (STORAGE_UNAVAILABLE) or ResourceExhausted
    (DISK_FULL).
    """

    def sweep(self) -> None:
        """Delete what an earlier server left."""
        ...

    def new_source(self) -> Path:
        """A name for a client's file; nothing lies there."""
        ...

    def new_target(self) -> Path:
        """An empty file for pixels."""
        ...

    def append(self, path: Path, data: bytes) -> None:
        """Put bytes at the end of a source, which is made when missing."""
        ...

    def take(self, path: Path, report: PictureReport, *, grey: bool) -> PreparedPicture:
        """Take over a file of pixels: it has the size that the report says, or is refused."""
        ...

    def read_small(self, path: Path, width: int, height: int) -> bytes | None:
        """A finished small picture, a WebP of that size in pixels; None where it is none."""
        ...

    def measure(self, path: Path, expected: PreparedPicture) -> ImageResult:
        """What a finished file is: a PNG of the size that is expected, or it is refused."""
        ...

    def remove(self, path: Path) -> None:
        """Delete a file; nothing happens when it is gone. Raises nothing."""
        ...


class Artifacts(Protocol):
    """The artifact store, as input pictures see it; see the store for errors."""

    def get(self, caller: Caller, artifact_id: str) -> Artifact:
        """The artifact without its bytes."""
        ...

    async def link(self, caller: Caller, artifact_id: str, target: Path) -> bool:
        """Give its bytes a second name; False where the disk cannot."""
        ...

    async def adopt(
        self, path: Path, sha256: str, owner: str, *, session_id: str = ""
    ) -> object:
        """Take a finished file."""
        ...

    def read(self, caller: Caller, artifact_id: str) -> AsyncGenerator[bytes]:
        """Its bytes."""
        ...
