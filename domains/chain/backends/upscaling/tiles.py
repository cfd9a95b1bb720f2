"""How a picture is cut into tiles that overlap, and how they are faded into each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from domains.model.core.enlarging import LEAST_TILE

# In the outer quarters of an overlap a tile counts for nothing: near its edge a network sees
# zeros instead of the picture, and what it gives there is off by many levels for some pixels
# (measured with the demo upscalers: 40 at the edge, 17 two pixels in, 0.4 four pixels in).
_PART_THAT_FADES = 2


@dataclass(frozen=True)
class Cuts:
    """Where the tiles of one axis begin and how long each is, in pixels."""

    starts: tuple[int, ...]
    length: int


@dataclass(frozen=True)
class Fading:
    """Where a tile takes over from the one before, in pixels from its own beginning: it counts
    for nothing before `begin` and for all from `end` on."""

    begin: int
    end: int

    @property
    def middle(self) -> int:
        """From where on it counts for more than the one before."""
        return (self.begin + self.end) // 2

    def weights(self) -> list[float]:
        """What it counts for between them; the tile before counts for the rest."""
        width = self.end - self.begin
        return [(place + 0.5) / width for place in range(width)]


def cut(length: int, tile: int, overlap: int, unit: int = 1) -> Cuts:
    """Cut an axis into as few tiles of one length as cover it, the last one ending with it.

    Args:
        length: Of the axis, a multiple of `unit`.
        tile: The most a tile may have; at least `unit`.
        overlap: The least that neighbours share, unless half a tile is less.
        unit: Every beginning and length is a multiple of it.
    """
    tile = max(unit, tile // unit * unit)
    if length <= tile:
        return Cuts((0,), length)
    shared = min(_up(overlap, unit), (tile - unit) // 2 // unit * unit)
    count = -(-(length - shared) // (tile - shared))
    # Smaller tiles of one length instead of a last one that shares most of its pixels.
    even = _up(-(-(length + (count - 1) * shared) // count), unit)
    room = (length - even) // unit
    starts = tuple(room * place // (count - 1) * unit for place in range(count))
    return Cuts(starts, even)


def fadings(cuts: Cuts, overlap: int, factor: int) -> tuple[Fading, ...]:
    """Where each tile but the first takes over, in pixels of what is `factor` times as large.

    All are equally wide, in the middle of what neighbours share, so each begins behind the
    one before.
    """
    shares = [
        (before + cuts.length - start) * factor for before, start in pairwise(cuts.starts)
    ]
    width = min([overlap * factor, *shares]) // _PART_THAT_FADES
    begins = [(shared - width) // 2 for shared in shares]
    return tuple(Fading(begin, begin + width) for begin in begins)


def halved(edge: int) -> int | None:
    """The next smaller tile to try; None where there is none."""
    smaller = edge // 2 // 8 * 8
    return smaller if smaller >= LEAST_TILE else None


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
