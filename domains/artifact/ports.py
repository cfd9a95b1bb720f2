"""What the artifact domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from domains.artifact.types import Artifact


class ArtifactFiles(Protocol):
    """Where the bytes lie, one whole file per artifact. Every method blocks on the disk."""

    def scan(self) -> list[Artifact]:
        """Everything that is kept, oldest first; what is not whole is removed.

        What is not an artifact's is left alone.
        """
        ...

    def adopt(self, path: Path, artifact_id: str, session_id: str) -> Artifact:
        """Take a finished file over and note its session.

        Where the same content is kept, that file stays and belongs to one session more;
        where it is damaged, it is set aside and replaced. One call at a time, and none
        together with `remove` or `settle`.

        Args:
            path: A complete file, synced to disk and out of everybody else's reach; moved
                away, or left where it is.
            artifact_id: The SHA-256 of its content, which is not computed again.
            session_id: The session that made it.

        Raises:
            DiskFull: There is no room on the disk.
            StorageUnavailable: It cannot be kept for another reason.
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
