"""A picture turned about its middle."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.steps.bands import Between, bands
from domains.chain.types import RotateStep, colour_of

_ROWS = 256
# Pixels that a bicubic reads on either side.
_REACH = 2
_OPAQUE = np.float32(255)
# By how many clockwise; Pillow counts the other way round.
_QUARTERS = {
    1: Image.Transpose.ROTATE_270,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_90,
}
_Floats = npt.NDArray[np.float32]


def rotate(canvas: Canvas, step: RotateStep, between: Between) -> Canvas:
    """Mirror the picture if asked to, and turn it clockwise.

    Quarter turns move pixels and change none. By other angles the picture stands in the middle
    of the least canvas that holds it, and each pixel is Pillow's bicubic of sRGB levels (cubic
    convolution, a = -1), rounded at the end, with colours multiplied by alpha meanwhile: what
    cannot be seen does not bleed into what can. Around the picture is the fill, into which its
    rim fades over a pixel; where that is not opaque the result has an alpha.
    """
    if step.mirror:
        canvas = _moved(canvas, Image.Transpose.FLIP_LEFT_RIGHT)
    quarters = step.quarters
    if quarters is None:
        return _turned(canvas, step, between)
    return canvas if quarters == 0 else _moved(canvas, _QUARTERS[quarters])


def _moved(canvas: Canvas, how: Image.Transpose) -> Canvas:
    """By Pillow: NumPy copies such planes byte by byte, in ten times the time."""
    planes = (canvas.pixels, canvas.alpha)
    pixels, alpha = (
        None if each is None else np.asarray(Image.fromarray(each).transpose(how))
        for each in planes
    )
    assert pixels is not None
    return Canvas(pixels, alpha)


def _turned(canvas: Canvas, step: RotateStep, between: Between) -> Canvas:
    width, height = size = step.size_after(canvas.size)
    colour = colour_of(step.fill)
    assert colour is not None, "it has been checked"
    *fill, opacity = (np.float32(level) for level in colour)
    opaque = canvas.alpha is None and opacity == _OPAQUE
    covered = _framed(np.full(canvas.pixels.shape[:2], _OPAQUE))
    own = covered if canvas.alpha is None else _framed(canvas.alpha.astype(np.float32))
    planes = [_framed(_weighted(canvas, channel)) for channel in range(3)]
    pixels = np.empty((height, width, 3), np.uint8)
    alpha = None if opaque else np.empty((height, width), np.uint8)
    for top, bottom in bands(height, _ROWS, between):
        place, within = _place(canvas.size, size, step.degrees, top), (width, bottom - top)
        around = opacity / _OPAQUE * (1 - _levels(covered, within, place) / _OPAQUE)
        seen = _levels(own, within, place) + around * _OPAQUE
        if alpha is not None:
            alpha[top:bottom] = _rounded(seen)
        for channel, plane in enumerate(planes):
            levels = _levels(plane, within, place) + around * fill[channel]
            # Where nothing is seen there is no colour.
            shares = np.divide(_OPAQUE, seen, out=np.zeros_like(seen), where=seen > 0)
            pixels[top:bottom, :, channel] = _rounded(levels * shares)
    return Canvas(pixels, alpha)


def _weighted(canvas: Canvas, channel: int) -> _Floats:
    """A channel's levels, multiplied by alpha."""
    levels = canvas.pixels[..., channel].astype(np.float32)
    return (
        levels if canvas.alpha is None else levels * (canvas.alpha.astype(np.float32) / _OPAQUE)
    )


def _framed(plane: _Floats) -> Image.Image:
    """With nothing around it, so that a bicubic reads that beyond the rim."""
    return Image.fromarray(np.pad(plane, _REACH))


def _place(
    before: tuple[int, int], after: tuple[int, int], degrees: float, top: int
) -> tuple[float, ...]:
    """Where in the framed picture a point of the result is that lies below `top`: factors of
    its x and y and what is added, for x and for y."""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = (edge / 2 + _REACH for edge in before)
    right, down = after[0] / 2, after[1] / 2 - top
    return (
        *(cosine, sine, x - cosine * right - sine * down),
        *(-sine, cosine, y + sine * right - cosine * down),
    )


def _levels(plane: Image.Image, size: tuple[int, int], place: tuple[float, ...]) -> _Floats:
    affine, bicubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    levels: _Floats = np.asarray(plane.transform(size, affine, place, bicubic), np.float32)
    # A bicubic goes beyond what it is made of.
    result: _Floats = np.clip(levels, np.float32(0), _OPAQUE)
    return result


def _rounded(levels: _Floats) -> Pixels:
    rounded: Pixels = np.rint(levels).clip(0, _OPAQUE).astype(np.uint8)
    return rounded
