"""Small pictures of unfinished work, as files."""

from __future__ import annotations

import io

from PIL import Image

from domains.session.types import Preview

Size = tuple[int, int]
_JPEG_QUALITY = 80


def preview_size(size: Size, max_edge: int) -> Size:
    """Width and height of a preview of a picture of that size: in its shape, the longer edge
    at most `max_edge` pixels, and never more than the picture has."""
    shrink = min(1.0, max_edge / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def preview_of(image: Image.Image, *, image_index: int, step: int) -> Preview:
    """An image of mode RGB as a JPEG.

    Args:
        image: In the preview's size.
        image_index: Which picture it shows, from 0.
        step: After which step, from 1.
    """
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_JPEG_QUALITY)
    return Preview(image_index, step, image.width, image.height, data.getvalue())
