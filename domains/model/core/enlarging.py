"""How large an enlarged picture is and what enlarging takes; worker and front agree on it."""

from __future__ import annotations

import math

Size = tuple[int, int]
"""Width and height in pixels."""
FOREIGN_NUMBERS_PER_PIXEL = 6_000
"""That upscalers of kinds that are not built in are taken to keep at once for a pixel:
attention and wide blocks keep more than convolutions."""
# On a processor the caches decide: tiles of 512 take twice as long for a pixel.
TILE_ON_PROCESSOR, TILE_ON_DEVICE, TILE_OVERLAP = 192, 256, 16
"""Edges of tiles and what they share where results must not depend on what memory is free, in
pixels."""
LEAST_TILE = 64
"""No tile that is chosen for a request is smaller, in pixels along an edge."""
# Of a row of tiles, in float32: the row, and its pixels while they are rounded.
_ROW_NUMBERS = 2 * 3
_FLOAT_BYTES = 4
_STEP = 8


def enlarged_size(size: Size, factor: float) -> Size:
    """Width and height in pixels after an enlargement by `factor`, rounded, halves up."""
    width, height = (max(1, int(edge * factor + 0.5)) for edge in size)
    return width, height


def tile_bytes(
    tile: Size, row: int, factor: int, numbers_per_pixel: int, number_bytes: int
) -> int:
    """What a pass takes beside the weights.

    Args:
        tile: Its width and height, in pixels of what is enlarged.
        row: Width of the picture that is enlarged.
        factor: Enlargement of the pass.
        numbers_per_pixel: That the network keeps at once for a pixel of a tile.
        number_bytes: Of one of those.
    """
    width, height = tile
    network = width * height * numbers_per_pixel * number_bytes
    return network + row * height * factor**2 * _ROW_NUMBERS * _FLOAT_BYTES


def upscale_bytes(
    weight_bytes: int,
    size: Size,
    tile: int,
    factor: int,
    numbers_per_pixel: int,
    number_bytes: int,
) -> int:
    """What an enlargement takes on its device, weights and all.

    Args:
        weight_bytes: Of the upscaler.
        size: Width and height of the picture that is enlarged.
        tile: Edge of its tiles.
        factor: Enlargement of the pass.
        numbers_per_pixel: That the network keeps at once for a pixel of a tile.
        number_bytes: Of one of those.
    """
    width, height = size
    one = (min(tile, width), min(tile, height))
    return weight_bytes + tile_bytes(one, width, factor, numbers_per_pixel, number_bytes)


def tile_fitting(
    free: int | None,
    size: Size,
    factor: int,
    numbers_per_pixel: int,
    number_bytes: int,
    *,
    most: int,
) -> int:
    """The largest tile that there is memory for; `LEAST_TILE` where there is less.

    Args:
        free: Bytes that may be used; None where nobody tells, and then `most` is tried.
        size: Width and height of the picture that is enlarged.
        factor: Enlargement of the pass.
        numbers_per_pixel: That the network keeps at once for a pixel of a tile.
        number_bytes: Of one of those.
        most: No tile is larger.
    """
    most = min(most, max(LEAST_TILE, _step_up(max(size))))
    if free is None:
        return most
    # A square tile: a * edge**2 + b * edge <= free.
    a = numbers_per_pixel * number_bytes
    b = size[0] * factor**2 * _ROW_NUMBERS * _FLOAT_BYTES
    edge = (math.sqrt(b * b + 4 * a * max(0, free)) - b) / (2 * a)
    return max(LEAST_TILE, min(most, int(edge) // _STEP * _STEP))


def _step_up(pixels: int) -> int:
    return -(-pixels // _STEP) * _STEP
