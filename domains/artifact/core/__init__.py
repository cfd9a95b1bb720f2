"""What is kept, for whom and how long; nothing here touches a disk."""

from domains.artifact.core.reading import CHUNK_BYTES
from domains.artifact.core.receiving import ArtifactUploads
from domains.artifact.core.store import ArtifactStore
from domains.artifact.core.thumbnails import Thumbnails

__all__ = ["CHUNK_BYTES", "ArtifactStore", "ArtifactUploads", "Thumbnails"]
