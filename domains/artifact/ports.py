"""What the artifact domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from domains.artifact.types import Claim, Holdings, StoredFile, Thumbnail

Needed = Callable[[], Mapping[str, Collection[str]]]
"""Which artifacts accepted work has not come to yet, by their ids, and of each whose work it
is."""


class ArtifactFiles(Protocol):
    """Where the bytes lie, one whole file per artifact. Every method blocks on the disk."""

    def scan(self) -> list[StoredFile]:
        """Everything that is kept, oldest first; what is not whole is removed.

        What is not an artifact's is left alone.
        """
        ...

    def adopt(self, path: Path, artifact_id: str, claim: Claim) -> StoredFile:
        """Take a finished file over and note whose it is.

        Where the same content is kept, that file stays and belongs to the claim's owner as
        well; where it is damaged, it is set aside and replaced. One call at a time, and none
        together with `note`, `remove` or `settle`.

        Args:
            path: A complete file out of everybody else's reach; brought to the disk and moved
                away, or left where it is.
            artifact_id: The SHA-256 of its content, which is not computed again.
            claim: For whom it is kept.

        Raises:
            DiskFull: There is no room on the disk.
            StorageUnavailable: It cannot be kept for another reason.
        """
        ...

    def note(self, artifact_id: str, holdings: Holdings) -> None:
        """Remember whose a file is from now on.

        Raises:
            DiskFull: There is no room on the disk.
            StorageUnavailable: It cannot be written.
        """
        ...

    def open(self, artifact_id: str) -> BinaryIO:
        """The content, for reading: it has the hash that it is named by.

        Raises:
            ArtifactNotFound: There is no file.
            ArtifactDamaged: Its content has another hash.
            StorageUnavailable: It cannot be read.
        """
        ...

    def link(self, artifact_id: str, target: Path) -> bool:
        """Give the content, which was opened before, a second name; False where the disk
        cannot, or where the name stands for other content by now."""
        ...

    def settle(self, artifact_id: str) -> bool:
        """Set a damaged file aside; whether a whole one is there."""
        ...

    def missing(self, artifact_ids: Iterable[str]) -> list[str]:
        """Which of these have no file any more."""
        ...

    def remove(self, artifact_id: str) -> None:
        """Delete the file; nothing happens when it is gone."""
        ...

    def free_bytes(self) -> int:
        """What is free on the disk, as far as this user may fill it."""
        ...


class ThumbnailFiles(Protocol):
    """Where small pictures lie, by artifact and edge in pixels. Every method blocks on the
    disk, may be called by several threads at once, and raises nothing: what cannot be kept is
    made again."""

    def sweep(self, artifact_ids: Iterable[str]) -> None:
        """Keep those of these artifacts only, and nothing that is not whole."""
        ...

    def read(self, artifact_id: str, edge_pixels: int) -> Thumbnail | None:
        """The one that is kept."""
        ...

    def keep(self, artifact_id: str, edge_pixels: int, made: Thumbnail) -> None:
        """Keep one; those that were not asked for the longest give way."""
        ...

    def remove(self, artifact_id: str) -> None:
        """Delete all of an artifact's."""
        ...


class Shrink(Protocol):
    """Makes small pictures."""

    async def __call__(self, artifact_id: str, edge_pixels: int) -> Thumbnail:
        """Of an artifact of the call's client.

        Raises:
            DomainError: InvalidArgument (IMAGE_UNREADABLE, IMAGE_FORMAT_UNSUPPORTED,
                IMAGE_TOO_LARGE), NotFound (ARTIFACT_NOT_FOUND), or it cannot be read now.
        """
        ...


class UploadFile(Protocol):
    """A file that grows while its bytes come in, out of everybody else's reach."""

    path: Path

    async def write(self, position: int, data: bytes) -> None:
        """Put bytes there.

        Raises:
            DiskFull: There is no room on the disk.
            StorageUnavailable: They cannot be written.
        """
        ...

    async def settle(self) -> None:
        """Have everything on the disk, and hold no descriptor.

        Raises:
            DiskFull: There is no room on the disk.
            StorageUnavailable: It cannot be written.
        """
        ...

    async def discard(self) -> None:
        """Delete it."""
        ...


class UploadFiles(Protocol):
    """Where unfinished uploads lie; nothing of them outlives the server. They block."""

    def sweep(self) -> None:
        """Delete what an earlier server left."""
        ...

    def create(self) -> UploadFile:
        """An empty file.

        Raises:
            DiskFull: There is no room on the disk.
            StorageUnavailable: It cannot be made.
        """
        ...
