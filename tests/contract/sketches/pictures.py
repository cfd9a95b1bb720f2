"""Finished pictures, put together from a session's events."""

from __future__ import annotations

import hashlib

from deviceops.v1.event_pb2 import SessionEvent
from deviceops.v1.session_pb2 import ImageResult


class Pictures:
    """Collects chunks until each picture is finished and has the hash it is named by."""

    def __init__(self) -> None:
        self.files: dict[int, bytes] = {}
        self.results: dict[int, ImageResult] = {}
        self._partial: dict[int, bytearray] = {}

    def add(self, event: SessionEvent) -> None:
        """Take in one event; those that are not about finished pictures change nothing."""
        match event.WhichOneof("event"):
            case "image_chunk":
                chunk = event.image_chunk
                partial = self._partial.setdefault(chunk.image_index, bytearray())
                # After a lost connection a picture begins again at its first byte.
                del partial[chunk.offset_bytes :]
                partial += chunk.data
            case "image_finished":
                image = event.image_finished.image
                self.results[image.image_index] = image
                if image.image_index in self._partial:
                    content = bytes(self._partial.pop(image.image_index))
                    if hashlib.sha256(content).hexdigest() != image.artifact_id:
                        raise ValueError("the picture did not arrive as it was sent")
                    self.files[image.image_index] = content
