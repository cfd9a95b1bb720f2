"""Bringing a picture to a size, whatever its shape."""

from __future__ import annotations

from PIL import Image

from domains.picture.types import ResizeFit


def fitted(image: Image.Image, size: tuple[int, int], fit: ResizeFit) -> Image.Image:
    """The picture in that width and height, with Lanczos; as it is where it has them.

    CONTAIN fills what is left beside it by repeating the pixels of its edges; COVER cuts off as
    much on either side, the odd pixel from the right or below.
    """
    if fit is ResizeFit.STRETCH:
        return _resized(image, size)
    if fit is ResizeFit.COVER:
        return _resized(_cut_to_shape(image, size), size)
    scale = min(size[0] / image.width, size[1] / image.height)
    inside = tuple(
        min(max(round(own * scale), 1), most)
        for own, most in zip(image.size, size, strict=True)
    )
    return _with_edges(_resized(image, (inside[0], inside[1])), size)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _cut_to_shape(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of it that has the shape of `size`, to a pixel of its own."""
    width = min(max(round(image.height * size[0] / size[1]), 1), image.width)
    height = min(max(round(image.width * size[1] / size[0]), 1), image.height)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _with_edges(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture in the middle of a larger one, its outermost pixels repeated to the rims."""
    width, height = image.size
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    whole = Image.new(image.mode, size)
    whole.paste(image, (left, top))
    _repeat(whole, (left, top, left + 1, top + height), (0, top, left, top + height))
    right = left + width
    _repeat(whole, (right - 1, top, right, top + height), (right, top, size[0], top + height))
    bottom = top + height
    _repeat(whole, (0, top, size[0], top + 1), (0, 0, size[0], top))
    _repeat(whole, (0, bottom - 1, size[0], bottom), (0, bottom, *size))
    return whole


def _repeat(
    image: Image.Image, line: tuple[int, int, int, int], area: tuple[int, int, int, int]
) -> None:
    width, height = area[2] - area[0], area[3] - area[1]
    if width > 0 and height > 0:
        stretched = image.crop(line).resize((width, height), Image.Resampling.NEAREST)
        image.paste(stretched, area[:2])
