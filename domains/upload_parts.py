"""What a client sends of an upload; see `domains/uploads.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UploadHeader:
    """What an upload announces; `sha256` is empty while the client does not know it."""

    upload_id: str
    offset_bytes: int
    size_bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class UploadCompletion:
    """What an upload closes with: the hash of the whole content."""

    sha256: str


UploadPart = bytes | UploadCompletion | UploadHeader | None
"""What follows a header; None stands for a message that holds nothing."""
