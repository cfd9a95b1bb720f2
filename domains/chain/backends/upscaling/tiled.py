"""One pass of an upscaler over a picture, in tiles that are faded into each other.

Tiles come row by row; of each row only what fades into the next one is kept, so that neither
the device nor the host ever holds the whole result in floating point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from domains.chain.backends.upscaling.lanczos import widened
from domains.chain.backends.upscaling.tiles import Cuts, Fading, cut, fadings
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.errors import FailedPrecondition, Reason
from domains.model.core.enlarging import Size

Pixels = npt.NDArray[np.uint8]


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


def run_pass(
    upscaler: Upscaler, pixels: Pixels, plan: Plan, between: Callable[[], None], width: int
) -> Pixels:
    """Enlarge a picture by the upscaler's own factor, with its rows resized at once.

    Args:
        upscaler: After numbers that are not finite it stays in float32.
        pixels: uint8 `[height, width, 3]`.
        plan: Of this picture's tiles.
        between: Called after each tile; may raise to stop.
        width: Of the rows that are returned; they are resized across by Lanczos where a pass
            makes others, so that what it makes too large is never there as a whole.

    Returns:
        uint8 `[height * factor, width, 3]`.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT, when float32 gives such numbers too.
    """
    factor, (height, own_width) = upscaler.factor, pixels.shape[:2]
    whole = np.empty((height * factor, width, 3), np.uint8)
    filled = _filled(pixels, upscaler.unit)
    rows = fadings(plan.down, plan.overlap, factor)
    columns = fadings(plan.across, plan.overlap, factor)
    before: torch.Tensor | None = None
    written = 0
    for number, top in enumerate(plan.down.starts):
        band = filled[top : top + plan.down.length]
        row = _row(upscaler, band, plan.across, columns, between)
        if before is not None:
            _fade(before, row, rows[number - 1], dimension=1)
        end = height * factor
        if number < len(rows):
            later = (plan.down.starts[number + 1] - top) * factor
            kept = slice(later + rows[number].begin, later + rows[number].end)
            before, end = row[:, kept].clone(), top * factor + kept.start
        # What lies before the part that fades is the row's before.
        own = row[:, written - top * factor : end - top * factor, : own_width * factor]
        whole[written:end] = widened(_rounded(own), width)
        written = end
    return whole


def _row(
    upscaler: Upscaler,
    band: Pixels,
    across: Cuts,
    columns: tuple[Fading, ...],
    between: Callable[[], None],
) -> torch.Tensor:
    """A row of tiles as float32 `[3, height, width]` on the device."""
    factor = upscaler.factor
    shape = (3, band.shape[0] * factor, band.shape[1] * factor)
    row = torch.empty(shape, dtype=torch.float32, device=upscaler.device)
    for number, left in enumerate(across.starts):
        tile = _tile(upscaler, band[:, left : left + across.length])
        begin = 0
        if number:
            fading = columns[number - 1]
            before = row[:, :, left * factor + fading.begin : left * factor + fading.end]
            _fade(before, tile, fading, dimension=2)
            begin = fading.begin
        row[:, :, left * factor + begin : (left + across.length) * factor] = tile[:, :, begin:]
        between()
    return row


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
