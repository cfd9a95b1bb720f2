"""A visible mark on top."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.reading import read_canvas
from domains.chain.backends.steps.bands import Between, bands
from domains.chain.types import Anchor, WatermarkStep

_ROWS = 256
# An outline of this share of a line's height keeps white letters legible on white.
_OUTLINE = 1 / 20
_MEASURED_AT = 256
_WHITE, _BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
_Floats = npt.NDArray[np.float32]


def watermark(canvas: Canvas, step: WatermarkStep, between: Between) -> Canvas:
    """Put a text or a picture on top, once or all over.

    The mark is `scale` times as high as the picture, rounded, and as wide as its own shape
    makes it; where it would reach into the margin of `margin_pixels` on any side it is made
    smaller until it does not, but never less than a pixel. It stands at its anchor, that far
    from the edges (CENTER: in the middle, the odd pixel to the right and below); TILED repeats
    it from the upper left on, that far from each other, cut off at the rims.

    A text is one line of the built-in font, white with a black outline, from the font's ascent
    to its descent. A picture is resized with Lanczos, its alpha too.

    What results, of a mark's colour c and coverage a (its alpha times `opacity`) on a pixel p,
    on sRGB levels, is p + (c - p) * a, rounded to the nearest level, halves to even; where the
    picture has an alpha b, that becomes a + b * (1 - a) and colours count by their shares.
    """
    mark = _mark(canvas.size, step)
    pixels = canvas.pixels.copy()
    alpha = None if canvas.alpha is None else canvas.alpha.copy()
    if step.opacity == 0:
        return Canvas(pixels, alpha)
    rows, columns = _places(mark, step, canvas.size)
    shown = np.flatnonzero(columns >= 0)
    first, last = int(shown[0]), int(shown[-1]) + 1
    # What lies between repeated marks is transparent.
    padded = np.pad(mark, ((0, 1), (0, 1), (0, 0)))
    for top, bottom in bands(pixels.shape[0], _ROWS, between):
        if not (rows[top:bottom] >= 0).any():
            continue
        part = padded[rows[top:bottom]][:, columns[first:last]].astype(np.float32)
        coverage = part[..., 3:] * np.float32(step.opacity / 255)
        place = (slice(top, bottom), slice(first, last))
        _put(pixels[place], None if alpha is None else alpha[place], part[..., :3], coverage)
    return Canvas(pixels, alpha)


def _put(pixels: Pixels, alpha: Pixels | None, colours: _Floats, coverage: _Floats) -> None:
    """Blend into `pixels` and `alpha`, which are changed."""
    below = pixels.astype(np.float32)
    if alpha is None:
        pixels[...] = np.rint(below + (colours - below) * coverage)
        return
    behind = alpha[..., None].astype(np.float32) / 255 * (1 - coverage)
    whole = coverage + behind
    seen = whole > 0
    share = np.divide(coverage, whole, out=np.zeros_like(whole), where=seen)
    pixels[...] = np.rint(below + (colours - below) * share)
    alpha[...] = np.rint(255 * whole[..., 0])


def _places(
    mark: Pixels, step: WatermarkStep, size: tuple[int, int]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Which row of the mark is on each row of the picture, and likewise of columns; -1 where
    none is."""
    high, wide = mark.shape[:2]
    rows = _along(size[1], high, step, step.anchor in (Anchor.TOP_LEFT, Anchor.TOP_RIGHT))
    columns = _along(size[0], wide, step, step.anchor in (Anchor.TOP_LEFT, Anchor.BOTTOM_LEFT))
    return rows, columns


def _along(edge: int, mark: int, step: WatermarkStep, at_start: bool) -> npt.NDArray[np.intp]:
    places = np.arange(edge)
    if step.anchor is Anchor.TILED:
        found = (places - _margin(edge, mark, step)) % (mark + step.margin_pixels)
    elif step.anchor is Anchor.CENTER:
        found = places - (edge - mark) // 2
    else:
        margin = _margin(edge, mark, step)
        found = places - (margin if at_start else edge - mark - margin)
    return np.where((found >= 0) & (found < mark), found, -1)


def _margin(edge: int, mark: int, step: WatermarkStep) -> int:
    """What there is room for of the margin."""
    return min(step.margin_pixels, (edge - mark) // 2)


def _mark(size: tuple[int, int], step: WatermarkStep) -> Pixels:
    """uint8 `[height, width, 4]` in the size that it is put on in."""
    if step.picture is not None:
        image = read_canvas(step.picture).image().convert("RGBA")
        fitting = _fitting(image.width / image.height, size, step)
        return np.asarray(image.resize(fitting, Image.Resampling.LANCZOS))
    # Measured large, as the font's numbers are rounded to pixels.
    width, height = _line(step.text, _MEASURED_AT)[1]
    fitting = _fitting(width / height, size, step)
    font_size = max(1.0, _MEASURED_AT * fitting[1] / height)
    return np.asarray(_written(step.text, font_size).resize(fitting, Image.Resampling.LANCZOS))


def _fitting(shape: float, size: tuple[int, int], step: WatermarkStep) -> tuple[int, int]:
    """Width and height of a mark of that shape (width by height)."""
    high = max(1.0, step.scale * size[1])
    room = [max(1, edge - 2 * step.margin_pixels) for edge in size]
    high = min(high, room[1], room[0] / shape)
    return (
        min(max(1, round(high * shape)), room[0]),
        min(max(1, round(high)), room[1]),
    )


def _written(text: str, font_size: float) -> Image.Image:
    font, size, outline = _line(text, font_size)
    image = Image.new("RGBA", size)
    ImageDraw.Draw(image).text(
        (outline, outline),
        text,
        fill=_WHITE,
        font=font,
        stroke_width=outline,
        stroke_fill=_BLACK,
    )
    return image


def _line(text: str, font_size: float) -> tuple[ImageFont.FreeTypeFont, tuple[int, int], int]:
    """The font, the width and height in pixels of a line of it, outline and all, and the
    outline's."""
    font = ImageFont.load_default(font_size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    ascent, descent = font.getmetrics()
    outline = round((ascent + descent) * _OUTLINE)
    width = max(1, round(font.getlength(text)))
    return font, (width + 2 * outline, ascent + descent + 2 * outline), outline
