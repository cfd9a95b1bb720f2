"""Tables of colours as .cube files (Adobe, Cube LUT Specification 1.0, 2013)."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

MOST_BYTES = 16_777_216
"""Of a file."""
_MOST_ENTRIES = {"LUT_1D_SIZE": 65_536, "LUT_3D_SIZE": 64}
_RANGES = {"LUT_1D_INPUT_RANGE": "LUT_1D_SIZE", "LUT_3D_INPUT_RANGE": "LUT_3D_SIZE"}
# What a colour may be at most: far beyond what a camera sees, far below what overflows.
_FARTHEST = 1e6
_Three = tuple[float, float, float]


class CubeBroken(Exception):
    """A file is no table; the text says what is wrong where, without its content."""


@dataclass(frozen=True)
class Cube:
    """A table. `colours` are little-endian float32: red, green, blue of each entry; of three
    dimensions red goes fastest. `entries` are those along a dimension, evenly from `low` to
    `high` for red, green and blue."""

    entries: int
    three_dimensions: bool
    low: _Three
    high: _Three
    colours: bytes


def parse_cube(data: bytes) -> Cube:
    """Read a file.

    Tables of one dimension have 2 to 65536 entries, of three 2 to 64 along each. Without
    DOMAIN_MIN and DOMAIN_MAX (or Resolve's LUT_1D_INPUT_RANGE and LUT_3D_INPUT_RANGE) they lie
    from 0 to 1. TITLE, comments and empty lines say nothing.

    Raises:
        CubeBroken: It breaks the specification, or has more than one table.
    """
    kind, entries = "", 0
    low: _Three = (0.0, 0.0, 0.0)
    high: _Three = (1.0, 1.0, 1.0)
    colours = array("f")
    # Nothing but titles and comments may hold other characters.
    lines = data.decode("utf-8-sig", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#") or words[0] == "TITLE":
            continue
        if words[0][0] in "+-.0123456789":
            if not kind:
                raise CubeBroken(f"line {number} has colours before the table's size")
            if len(colours) == 3 * _count(kind, entries):
                raise CubeBroken(f"line {number} has more colours than the size says")
            colours.extend(_numbers(words, 3, number))
        elif colours:
            raise CubeBroken(f"line {number} says something after the first colour")
        elif words[0] in _MOST_ENTRIES:
            if kind:
                raise CubeBroken(f"line {number} begins a second table")
            kind, entries = words[0], _entries(words, number)
        elif words[0] == "DOMAIN_MIN":
            low = _three(_numbers(words[1:], 3, number))
        elif words[0] == "DOMAIN_MAX":
            high = _three(_numbers(words[1:], 3, number))
        elif words[0] in _RANGES:
            first, last = _numbers(words[1:], 2, number)
            low, high = _three([first] * 3), _three([last] * 3)
        else:
            raise CubeBroken(f"line {number} has a word that is none of the format")
    if not kind:
        raise CubeBroken("it says no LUT_1D_SIZE or LUT_3D_SIZE")
    if not all(one < other for one, other in zip(low, high, strict=True)):
        raise CubeBroken("its domain's least is not below its most")
    missing = _count(kind, entries) - len(colours) // 3
    if missing:
        raise CubeBroken(f"{missing} of its colours are missing")
    if sys.byteorder == "big":
        colours.byteswap()
    return Cube(entries, kind == "LUT_3D_SIZE", low, high, colours.tobytes())


def _count(kind: str, entries: int) -> int:
    return entries**3 if kind == "LUT_3D_SIZE" else entries


def _entries(words: Sequence[str], number: int) -> int:
    most = _MOST_ENTRIES[words[0]]
    text = words[1] if len(words) == 2 else ""
    # Digits beyond any size are not made a number of.
    entries = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    if not 2 <= entries <= most:
        raise CubeBroken(f"line {number} must say a size from 2 to {most}")
    return entries


def _numbers(words: Sequence[str], count: int, number: int) -> list[float]:
    if len(words) != count:
        raise CubeBroken(f"line {number} must have {count} numbers")
    try:
        found = [float(word) for word in words]
    except ValueError:
        raise CubeBroken(f"line {number} has what is no number") from None
    if not all(math.isfinite(each) and abs(each) <= _FARTHEST for each in found):
        raise CubeBroken(f"line {number} has a number beyond {_FARTHEST:.0f}")
    return found


def _three(numbers: Sequence[float]) -> _Three:
    red, green, blue = numbers
    return red, green, blue
