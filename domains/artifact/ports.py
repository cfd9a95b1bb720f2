"""What the artifact domain needs from outside its pure core."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from domains.artifact.types import Artifact


class ArtifactFiles(Protocol):
    """Where the bytes lie, one whole file per artifact. Every method blocks on the disk."""

    def scan(self) -> list[Artifact]:
        """Everything that is kept, oldest first; what is not whole is removed."""
        ...

    def adopt(self, path: Path, artifact_id: str, session_id: str) -> Artifact:
        """Take a finished file over and note its session.

        Where the same content is kept, that file stays and belongs to one session more.
        One call at a time, and none together with `remove`.

        Args:
            path: A complete file, synced to disk, on the same file system, and out of
                everybody else's reach; moved away, or left where it is.
            artifact_id: The SHA-256 of its content, which is not computed again.
            session_id: The session that made it.

        Raises:
            DiskFull: There is no room on the disk.
        """
        ...

    def open(self, artifact_id: str) -> BinaryIO:
        """The content, for reading."""
        ...

    def remove(self, artifact_id: str) -> None:
        """Delete the file; nothing happens when it is gone."""
        ...
