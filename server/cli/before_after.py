"""A picture and what came of it, side by side in a terminal of true colour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.preview import Lines, PreviewUnreadable, lines_of, put

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.text import Text

_GAP = 2
_LEAST_COLUMNS = 8
"""Of each picture, in characters; on less nothing can be recognised."""


def before_after(before: Path, after: Path, columns: int, rows: int) -> Text | None:
    """Both pictures over their captions.

    Where the second one is larger, its middle is shown pixel by pixel and the same part of the
    first one as large, so that it can be seen what was gained; else both whole.

    Args:
        before: A file.
        after: A file.
        columns: Characters across that there is room for.
        rows: Lines likewise, captions included.

    Returns:
        None where a file is no picture that can be shown, or there is no room.
    """
    each = (columns - _GAP) // 2
    if each < _LEAST_COLUMNS or rows < 2:
        return None
    try:
        first, second = _opened(before), _opened(after)
    except PreviewUnreadable:
        return None
    if second.width > first.width and second.height > first.height:
        first, second = _details(first, second, each, 2 * (rows - 1))
    pictures = [lines_of(picture, each, rows - 1) for picture in (first, second)]
    return _joined(pictures, ("before", "after"))


def _opened(path: Path) -> Image:
    """Upright and opaque; what is transparent shows white.

    Raises:
        PreviewUnreadable: It is no picture, or not one to be shown.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PreviewUnreadable("no picture") from error
    opaque = Image.new("RGB", upright.size, "white")
    opaque.paste(upright, mask=upright.getchannel("A"))
    return opaque


def _details(before: Image, after: Image, width: int, height: int) -> tuple[Image, Image]:
    """The middle of the larger picture, at most that wide and high in pixels, and the same
    part of the other one, as large."""
    from PIL import Image

    width, height = min(width, after.width), min(height, after.height)
    left, top = (after.width - width) // 2, (after.height - height) // 2
    box = (left, top, left + width, top + height)
    across, down = before.width / after.width, before.height / after.height
    same = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    blocky = before.resize((width, height), Image.Resampling.NEAREST, same)
    return blocky, after.crop(box)


def _joined(pictures: list[Lines], captions: tuple[str, str]) -> Text:
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop")
    across = len(pictures[0][0]) + _GAP
    across = max(across, len(captions[0]) + _GAP)
    for number in range(max(map(len, pictures))):
        left, right = (lines[number] if number < len(lines) else [] for lines in pictures)
        put(text, left)
        text.append(" " * (across - len(left)))
        put(text, right)
        text.append("\n")
    text.append(captions[0].ljust(across) + captions[1])
    return text
