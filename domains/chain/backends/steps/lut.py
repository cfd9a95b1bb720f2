"""Colours by a table."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.steps.bands import Between, bands
from domains.chain.types import LutStep, Table
from domains.errors import Reason, Unavailable
from domains.regular_files import TooLong, read_regular

_ROWS = 64
_Floats = npt.NDArray[np.float32]
_Places = npt.NDArray[np.intp]


def lut(canvas: Canvas, step: LutStep, between: Between) -> Canvas:
    """Look colours up in a table.

    sRGB levels, as shares of 255, are put in the table's domain, what lies outside at its rim.
    A table of one dimension has a curve for each channel, interpolated linearly; one of three
    dimensions is interpolated linearly along each (trilinear). What it has is clipped to 0 to 1
    and blended with the picture by `strength`, and the result is rounded to the nearest level,
    halves to even. A strength of 0 changes nothing. Alpha stays, and colours are taken whatever
    it is.

    Raises:
        Unavailable: STORAGE_UNAVAILABLE, where the table is gone.
    """
    if step.strength == 0:
        return canvas
    assert step.table is not None, "it has been looked up"
    table = step.table
    colours = _read(table)
    places = [_place(table, channel) for channel in range(3)]
    result = np.empty_like(canvas.pixels)
    strength = np.float32(step.strength)
    for top, bottom in bands(canvas.pixels.shape[0], _ROWS, between):
        own = canvas.pixels[top:bottom]
        if table.three_dimensions:
            found = _cubic(colours, places, own, table.entries)
        else:
            found = _curves(colours, places, own)
        before = own.astype(np.float32)
        found = before + (255 * found.clip(0, 1) - before) * strength
        result[top:bottom] = np.rint(found)
    return Canvas(result, canvas.alpha)


def _read(table: Table) -> _Floats:
    """float32 `[entries, 3]`, of three dimensions `[entries^3, 3]`."""
    try:
        data = read_regular(table.path, table.size_bytes)
    except (OSError, TooLong) as error:
        raise _lost() from error
    if len(data) != table.size_bytes:
        raise _lost()
    return np.frombuffer(data, "<f4").reshape(-1, 3)


def _place(table: Table, channel: int) -> tuple[_Places, _Floats]:
    """The entry below each level, and how far it is from there to the next, 0 to 1."""
    low, high = table.low[channel], table.high[channel]
    shares = ((np.arange(256) / 255 - low) / (high - low)).clip(0, 1)
    places = shares * (table.entries - 1)
    below = np.minimum(places.astype(np.intp), table.entries - 2)
    return below, (places - below).astype(np.float32)


def _curves(colours: _Floats, places: list[tuple[_Places, _Floats]], pixels: Pixels) -> _Floats:
    found = np.empty(pixels.shape, np.float32)
    for channel, (below, beyond) in enumerate(places):
        curve = colours[:, channel]
        levels = curve[below] * (1 - beyond) + curve[below + 1] * beyond
        found[..., channel] = levels[pixels[..., channel]]
    return found


def _cubic(
    colours: _Floats, places: list[tuple[_Places, _Floats]], pixels: Pixels, entries: int
) -> _Floats:
    strides = (1, entries, entries**2)
    first = np.zeros(pixels.shape[:2], np.intp)
    for channel, (stride, (below, _)) in enumerate(zip(strides, places, strict=True)):
        first += stride * below[pixels[..., channel]]
    beyond = [far[pixels[..., channel]] for channel, (_, far) in enumerate(places)]
    found = np.zeros(pixels.shape, np.float32)
    for corner in product((0, 1), repeat=3):
        weight = np.ones(pixels.shape[:2], np.float32)
        for up, far in zip(corner, beyond, strict=True):
            weight *= far if up else 1 - far
        at = first + sum(up * stride for up, stride in zip(corner, strides, strict=True))
        found += weight[..., None] * colours[at]
    return found


def _lost() -> Unavailable:
    return Unavailable(
        "The prepared table of colours is not there any more; send the request again.",
        reason=Reason.STORAGE_UNAVAILABLE,
        retry_after=1.0,
    )
