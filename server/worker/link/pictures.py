"""What the file of a picture is called in a worker's spool folder."""

from __future__ import annotations

from domains.session.types import ImageResult


def file_name(epoch: int, image: ImageResult) -> str:
    """A bare name that no other picture of the same worker has."""
    return f"{epoch}-{image.image_index}.{image.format.value}"
