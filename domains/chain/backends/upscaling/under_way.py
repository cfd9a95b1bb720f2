"""An upscaling as far as it has come, so that whatever stops it, its tiles need not be lost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from domains.chain.backends.upscaling.upscaler import Upscaler

Pixels = npt.NDArray[np.uint8]


@dataclass
class Tiles:
    """A pass after some of its tiles, which come row by row.

    Attributes:
        tile: The most that a tile's edge may have, in pixels of what the pass takes.
        rows: Rows that are done: nothing fades into them any more but into `fading`.
        columns: Tiles of the next row that are done.
        done: Tiles that are done.
        levels: uint8 `[height, width, 3]`, as much of the result as is done; None before a row
            is.
        fading: float32 `[3, height, width]`, what of the last row fades into the next; None
            where nothing does.
        row: float32 `[3, height, width]`, the row at work; of its columns `filled` are done.
    """

    tile: int
    rows: int = 0
    columns: int = 0
    done: int = 0
    levels: Pixels | None = None
    fading: torch.Tensor | None = None
    row: torch.Tensor | None = None
    filled: int = 0

    @property
    def written(self) -> int:
        """How high `levels` are."""
        return 0 if self.levels is None else len(self.levels)

    def take(self, row: torch.Tensor) -> torch.Tensor:
        """Put what is done of the row at work into `row`, which is that from now on."""
        if self.row is not None:
            row[:, :, : self.filled] = self.row[:, :, : self.filled]
        self.row = row
        return row

    def end_tile(self, filled: int) -> None:
        """One more tile of the row is done."""
        self.columns, self.done, self.filled = self.columns + 1, self.done + 1, filled

    def end_row(self, levels: Pixels, fading: torch.Tensor | None) -> None:
        """The row at work is done."""
        self.levels, self.fading = levels, fading
        self.rows, self.columns, self.row, self.filled = self.rows + 1, 0, None, 0


@dataclass
class Upscaling:
    """The passes of a step in their order, those of its alpha after those of its colours.

    Attributes:
        data_type: In which the network computed last; None before the first pass.
        finished: What passes have come to, and how many tiles each had.
        now: The pass at work; None between two.
    """

    data_type: torch.dtype | None = None
    finished: list[tuple[Pixels, int]] = field(default_factory=list)
    now: Tiles | None = None
    _next: int = 0

    @property
    def tiles(self) -> int:
        """Those that are done."""
        now = 0 if self.now is None else self.now.done
        return now + sum(tiles for _, tiles in self.finished)

    def for_network(self, upscaler: Upscaler) -> Upscaling:
        """The same, where that goes on as the network did; else one that begins anew."""
        if not self.tiles or self.data_type == upscaler.data_type:
            return self
        if self.data_type != torch.float32:
            return Upscaling()
        upscaler.compute_exactly()  # it had come to numbers that were not finite
        return self

    def next(self) -> tuple[Pixels, int] | None:
        """What the next pass has come to; None where it is not finished."""
        self._next += 1
        return self.finished[self._next - 1] if self._next <= len(self.finished) else None

    def end_pass(self, pixels: Pixels, tiles: int) -> None:
        """The pass at work is finished."""
        self.finished.append((pixels, tiles))
        self.now = None
