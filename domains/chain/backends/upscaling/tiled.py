"""One pass of an upscaler over a picture, in tiles that are faded into each other.

Tiles come row by row; of each row only what fades into the next one is kept, so that neither
the device nor the host ever holds the whole result in floating point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from domains.chain.backends.upscaling.lanczos import widened
from domains.chain.backends.upscaling.tiles import Cuts, Fading, cut, fadings
from domains.chain.backends.upscaling.under_way import Pixels, Tiles
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.errors import FailedPrecondition, Reason
from domains.model.core.enlarging import Size


@dataclass(frozen=True)
class Plan:
    """Where the tiles of a pass lie, down and across, and how far they fade."""

    down: Cuts
    across: Cuts
    overlap: int

    @classmethod
    def of(cls, size: Size, upscaler: Upscaler, tile: int, overlap: int) -> Plan:
        """For a picture whose edges may have to be filled up for the network.

        Args:
            size: Its width and height.
            upscaler: Its unit counts.
            tile: The most a tile's edge may have.
            overlap: The least that neighbours share.
        """
        unit = upscaler.unit
        width, height = (-(-edge // unit) * unit for edge in size)
        return cls(cut(height, tile, overlap, unit), cut(width, tile, overlap, unit), overlap)

    @property
    def tiles(self) -> int:
        """How many there are."""
        return len(self.down.starts) * len(self.across.starts)


@dataclass(frozen=True)
class Box:
    """Where a tile lies, in shares of the picture's width and height."""

    left: float
    top: float
    right: float
    bottom: float


Between = Callable[[torch.Tensor, Box], None]
"""Called after each tile with that, float32 `[3, height, width]` on its device, from where on
it counts for more than those before it; may raise to stop."""


def run_pass(
    upscaler: Upscaler,
    pixels: Pixels,
    plan: Plan,
    between: Between,
    tiles: Tiles,
    width: int,
) -> Pixels:
    """Enlarge a picture by the upscaler's own factor, with its rows resized at once.

    Args:
        upscaler: After numbers that are not finite it stays in float32.
        pixels: uint8 `[height, width, 3]`.
        plan: Of this picture's tiles.
        between: Called after each tile.
        tiles: Those of this plan that are done; told of each one more.
        width: Of the rows that are returned; they are resized across by Lanczos where a pass
            makes others, so that what it makes too large is never there as a whole.

    Returns:
        uint8 `[height * factor, width, 3]`.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT, when float32 gives such numbers too.
    """
    factor, (height, own_width) = upscaler.factor, pixels.shape[:2]
    made = (height * factor, own_width * factor)
    whole = np.empty((height * factor, width, 3), np.uint8)
    filled = _filled(pixels, upscaler.unit)
    rows = fadings(plan.down, plan.overlap, factor)
    columns = fadings(plan.across, plan.overlap, factor)
    written = tiles.written
    if tiles.levels is not None:
        whole[:written] = tiles.levels
    for number in range(tiles.rows, len(plan.down.starts)):
        top = plan.down.starts[number]
        band = filled[top : top + plan.down.length]
        above = rows[number - 1].middle if number else 0
        told = partial(_tell, between, made, top * factor, above)
        row = _row(upscaler, band, plan.across, columns, told, tiles)
        if tiles.fading is not None:
            _fade(tiles.fading, row, rows[number - 1], dimension=1)
        before, end = None, height * factor
        if number < len(rows):
            later = (plan.down.starts[number + 1] - top) * factor
            kept = slice(later + rows[number].begin, later + rows[number].end)
            before, end = row[:, kept].clone(), top * factor + kept.start
        # What lies before the part that fades is the row's before.
        own = row[:, written - top * factor : end - top * factor, : own_width * factor]
        whole[written:end] = widened(_rounded(own), width)
        written = end
        tiles.end_row(whole[:written], before)
    return whole


def _row(
    upscaler: Upscaler,
    band: Pixels,
    across: Cuts,
    columns: tuple[Fading, ...],
    told: Callable[[torch.Tensor, int], None],
    tiles: Tiles,
) -> torch.Tensor:
    """A row of tiles, of which some may be done: float32 `[3, height, width]` on the device.
    Each that is not is told as it comes, with where it begins to count."""
    factor = upscaler.factor
    shape = (3, band.shape[0] * factor, band.shape[1] * factor)
    row = tiles.take(torch.empty(shape, dtype=torch.float32, device=upscaler.device))
    for number in range(tiles.columns, len(across.starts)):
        left = across.starts[number]
        tile = _tile(upscaler, band[:, left : left + across.length])
        begin = middle = 0
        if number:
            fading = columns[number - 1]
            before = row[:, :, left * factor + fading.begin : left * factor + fading.end]
            _fade(before, tile, fading, dimension=2)
            begin, middle = fading.begin, fading.middle
        end = (left + across.length) * factor
        row[:, :, left * factor + begin : end] = tile[:, :, begin:]
        tiles.end_tile(end)
        told(tile[:, :, middle:], left * factor + middle)
    return row


def _tell(
    between: Between,
    whole: tuple[int, int],
    top: int,
    above: int,
    tile: torch.Tensor,
    left: int,
) -> None:
    """Tell of a tile that begins there in a whole of that height and width: without the rows
    `above` and without what lies beyond the whole."""
    height, width = whole
    own = tile[:, above : height - top, : width - left]
    right, bottom, top = left + own.shape[2], top + above + own.shape[1], top + above
    between(own, Box(left / width, top / height, right / width, bottom / height))


def _tile(upscaler: Upscaler, pixels: Pixels) -> torch.Tensor:
    # A copy: torch wants memory that it may write to, in one piece.
    given = torch.from_numpy(np.array(pixels)).to(upscaler.device)
    given = given.permute(2, 0, 1).to(torch.float32) / 255
    enlarged = _enlarged(upscaler, given)
    if not _finite(enlarged) and upscaler.data_type != torch.float32:
        upscaler.compute_exactly()
        enlarged = _enlarged(upscaler, given)
    if not _finite(enlarged):
        raise FailedPrecondition(
            "The upscaler produced numbers that are not finite, in float32 too; use another "
            "one.",
            reason=Reason.NON_FINITE_OUTPUT,
            metadata={"stage": "upscaling"},
        )
    return enlarged


def _enlarged(upscaler: Upscaler, given: torch.Tensor) -> torch.Tensor:
    """From float32 `[3, height, width]` to the same, larger."""
    # A grey network sees each colour as a picture of its own.
    batch = given[:, None] if upscaler.channels == 1 else given[None]
    layout = torch.channels_last if upscaler.channels_last else torch.contiguous_format
    batch = batch.to(upscaler.data_type).contiguous(memory_format=layout)
    with torch.no_grad():
        enlarged: torch.Tensor = upscaler.network(batch)
    return enlarged.to(torch.float32).flatten(0, 1)


def _finite(numbers: torch.Tensor) -> bool:
    return bool(torch.isfinite(numbers).all())


def _fade(before: torch.Tensor, after: torch.Tensor, fading: Fading, *, dimension: int) -> None:
    """Fade `before` into `after`, in place, where `before` ends."""
    width = fading.end - fading.begin
    if not width:
        return
    shape = [1, 1, 1]
    shape[dimension] = width
    weights = torch.tensor(fading.weights(), dtype=torch.float32).to(after.device).view(shape)
    target = after.narrow(dimension, fading.begin, width)
    target.copy_(torch.lerp(before, target, weights))


def _filled(pixels: Pixels, unit: int) -> Pixels:
    """With its last row and column repeated until both edges are multiples of `unit`."""
    height, width = (-edge % unit for edge in pixels.shape[:2])
    if not height and not width:
        return pixels
    return np.pad(pixels, ((0, height), (0, width), (0, 0)), "edge")


def _rounded(numbers: torch.Tensor) -> Pixels:
    """From `[3, height, width]`, 0 to 1 and clipped here, to `[height, width, 3]` levels."""
    levels = (numbers * 255).round_().clamp_(0, 255).to(torch.uint8)
    pixels: Pixels = levels.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels
