"""What is kept, for whom and how long; nothing here touches a disk."""

from domains.artifact.core.reading import CHUNK_BYTES
from domains.artifact.core.receiving import ArtifactUploads
from domains.artifact.core.store import ArtifactStore

__all__ = ["CHUNK_BYTES", "ArtifactStore", "ArtifactUploads"]
