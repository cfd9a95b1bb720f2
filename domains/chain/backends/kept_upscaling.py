"""An upscaling that is under way, as values that can be kept."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from msgspec import Meta

from domains.chain.backends.canvas import Pixels
from domains.chain.backends.upscaling.under_way import Tiles, Upscaling
from domains.codec import FEW, Count, Value

_TYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float32, torch.float16, torch.bfloat16)
}
_Edge = Annotated[int, Meta(ge=1, le=2**20)]
_Word = Annotated[str, Meta(max_length=16)]


class KeptLevels(Value, frozen=True):
    """uint8 `[height, width, 3]`, row by row."""

    width: _Edge
    height: _Edge
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != 3 * self.width * self.height:
            raise ValueError("levels have the bytes of their size")

    @classmethod
    def of(cls, levels: Pixels) -> KeptLevels:
        """Those levels."""
        height, width = levels.shape[:2]
        return cls(width, height, levels.tobytes())

    def levels(self) -> Pixels:
        """Those levels again."""
        found = np.frombuffer(self.data, np.uint8).copy()
        return found.reshape((self.height, self.width, 3))


class KeptNumbers(Value, frozen=True):
    """float32 `[3, height, width]`, row by row; of tiles that share nothing none fade."""

    width: _Edge
    height: Annotated[int, Meta(ge=0, le=2**20)]
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != 12 * self.width * self.height:
            raise ValueError("numbers have the bytes of their size")

    @classmethod
    def of(cls, numbers: torch.Tensor) -> KeptNumbers:
        """Those numbers, wherever they are."""
        _, height, width = numbers.shape
        return cls(width, height, numbers.cpu().contiguous().numpy().tobytes())

    def tensor(self, device: torch.device) -> torch.Tensor:
        """Those numbers again."""
        found = np.frombuffer(self.data, np.float32).copy()
        return torch.from_numpy(found.reshape((3, self.height, self.width))).to(device)


class KeptTiles(Value, frozen=True):
    """A pass after some of its tiles; see `Tiles`. Of the row at work it is what is done."""

    tile: _Edge
    rows: Count
    columns: Count
    done: Count
    levels: KeptLevels | None
    fading: KeptNumbers | None
    row: KeptNumbers | None


class KeptPass(Value, frozen=True):
    """What a pass has come to, and how many tiles it had."""

    levels: KeptLevels
    tiles: Count


class KeptUpscaling(Value, frozen=True):
    """Passes of a step; see `Upscaling`."""

    data_type: _Word
    finished: Annotated[tuple[KeptPass, ...], FEW]
    now: KeptTiles | None

    def __post_init__(self) -> None:
        if self.data_type not in _TYPES:
            raise ValueError("a network computes in a known type")

    @classmethod
    def of(cls, upscaling: Upscaling) -> KeptUpscaling:
        """One that has begun."""
        finished = (KeptPass(KeptLevels.of(each), count) for each, count in upscaling.finished)
        name = str(upscaling.data_type).removeprefix("torch.")
        now = None if upscaling.now is None else _kept(upscaling.now)
        return cls(name, tuple(finished), now)

    def upscaling(self, device: torch.device) -> Upscaling:
        """The same again."""
        finished = [(each.levels.levels(), each.tiles) for each in self.finished]
        now = None if self.now is None else _again(self.now, device)
        return Upscaling(_TYPES[self.data_type], finished, now)


def _kept(tiles: Tiles) -> KeptTiles:
    row = tiles.row[:, :, : tiles.filled] if tiles.row is not None and tiles.filled else None
    return KeptTiles(
        tiles.tile,
        tiles.rows,
        tiles.columns,
        tiles.done,
        None if tiles.levels is None else KeptLevels.of(tiles.levels),
        None if tiles.fading is None else KeptNumbers.of(tiles.fading),
        None if row is None else KeptNumbers.of(row),
    )


def _again(kept: KeptTiles, device: torch.device) -> Tiles:
    return Tiles(
        kept.tile,
        kept.rows,
        kept.columns,
        kept.done,
        None if kept.levels is None else kept.levels.levels(),
        None if kept.fading is None else kept.fading.tensor(device),
        None if kept.row is None else kept.row.tensor(device),
        0 if kept.row is None else kept.row.width,
    )
