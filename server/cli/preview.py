"""Previews in a terminal: a JPEG as coloured half blocks, two pixels a character."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.text import Text

Pixel = tuple[int, int, int]
Line = list[tuple[Pixel, Pixel]]
"""Of each character the upper and the lower pixel."""
Lines = list[Line]
UPPER_HALF = "▀"
MOST_PIXELS = 512 * 512  # the contract's largest preview
MOST_BYTES = 262_144


class PreviewUnreadable(ValueError):
    """The bytes are no picture that could be shown."""


def half_blocks(jpeg: bytes, columns: int, rows: int) -> Lines:
    """The picture as lines of (upper, lower) pixels, fitted into columns by rows.

    A character is about twice as high as wide, so that one shows two square pixels.
    Small pictures are not enlarged.

    Raises:
        PreviewUnreadable: Not a JPEG, or larger than any preview.
    """
    from PIL import Image

    if len(jpeg) > MOST_BYTES:
        raise PreviewUnreadable("larger than any preview")
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise PreviewUnreadable("more pixels than any preview")
            picture = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise PreviewUnreadable("not a JPEG file") from error
    return lines_of(picture, columns, rows)


def lines_of(picture: Image, columns: int, rows: int) -> Lines:
    """An image of mode RGB as `half_blocks` shows it."""
    from PIL import Image

    scale = min(columns / picture.width, 2 * rows / picture.height, 1.0)
    width = max(1, round(picture.width * scale))
    height = max(2, round(picture.height * scale))
    height += height % 2
    pixels = picture.resize((width, height), Image.Resampling.BOX).tobytes()

    def pixel(x: int, y: int) -> Pixel:
        at = 3 * (y * width + x)
        return pixels[at], pixels[at + 1], pixels[at + 2]

    return [[(pixel(x, y), pixel(x, y + 1)) for x in range(width)] for y in range(0, height, 2)]


def put(text: Text, line: Line) -> None:
    """A line of half blocks behind what there is of text for a true-colour terminal."""
    from rich.color import Color
    from rich.style import Style

    for upper, lower in line:
        style = Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
        text.append(UPPER_HALF, style)
