"""Colours by a table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

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
    volume = _volume(colours, table.entries) if table.three_dimensions else None
    result = np.empty_like(canvas.pixels)
    strength = np.float32(step.strength)
    for top, bottom in bands(canvas.pixels.shape[0], _ROWS, between):
        own = canvas.pixels[top:bottom]
        if volume is not None:
            found = _cubic(volume, places, own)
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


def _volume(colours: _Floats, entries: int) -> torch.Tensor:
    """float32 `[1, 3, blue, green, red]`."""
    shaped = colours.reshape(entries, entries, entries, 3).transpose(3, 0, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(shaped))[None]


def _curves(colours: _Floats, places: list[tuple[_Places, _Floats]], pixels: Pixels) -> _Floats:
    found = np.empty(pixels.shape, np.float32)
    for channel, (below, beyond) in enumerate(places):
        curve = colours[:, channel]
        levels = curve[below] * (1 - beyond) + curve[below + 1] * beyond
        found[..., channel] = levels[pixels[..., channel]]
    return found


def _cubic(
    volume: torch.Tensor, places: list[tuple[_Places, _Floats]], pixels: Pixels
) -> _Floats:
    """By torch, whose one pass takes a third of the time of NumPy's eight corners.

    Args:
        volume: float32 `[1, 3, blue, green, red]`.
        places: Where each level of each channel is.
        pixels: Looked up.
    """
    where = np.empty(pixels.shape, np.float32)
    last = volume.shape[-1] - 1
    for channel, (below, beyond) in enumerate(places):
        # -1 is the first entry, 1 the last one.
        row = (2 * (below + beyond) / last - 1).astype(np.float32)
        where[..., channel] = row[pixels[..., channel]]
    found = torch.nn.functional.grid_sample(
        volume,
        torch.from_numpy(where)[None, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    colours: _Floats = found[0, :, 0].permute(1, 2, 0).numpy()
    return colours


def _lost() -> Unavailable:
    return Unavailable(
        "The prepared table of colours is not there any more; send the request again.",
        reason=Reason.STORAGE_UNAVAILABLE,
        retry_after=1.0,
    )
