"""The Exif part of an AVIF file: its item in the boxes of a HEIF file (ISO/IEC 23008-12).

Only boxes' heads and what tells of items is read, bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_MOST_BOXES = 10_000
_MOST_BYTES = 1 << 22


def avif_exif(file: BinaryIO) -> bytes:
    """From the head of its TIFF on; empty where there is none.

    Raises:
        struct.error: The file is damaged.
    """
    parts = dict(_inside(_meta(file)[4:]))
    item = _exif_item(parts.get(b"iinf", b""))
    if item is None:
        return b""
    for place, length in _extents(parts.get(b"iloc", b""), item):
        file.seek(place)
        data = file.read(min(length, _MOST_BYTES))
        # How far behind these four bytes the TIFF begins.
        (beyond,) = struct.unpack_from(">I", data)
        return data[4 + beyond :].removeprefix(b"Exif\0\0")
    return b""


def _meta(file: BinaryIO) -> bytes:
    place = 0
    for _ in range(_MOST_BOXES):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        start = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            start = 16
        if length < start:
            break
        if kind == b"meta":
            return file.read(min(length - start, _MOST_BYTES))
        place += length
    return b""


def _inside(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in a row."""
    place = 0
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if length < 8:
            raise struct.error("a box that is no box")
        yield kind, data[place + 8 : place + length]
        place += length


def _exif_item(items: bytes) -> int | None:
    """The number of the item that is Exif."""
    for kind, body in _inside(items[6 if items[:1] == b"\0" else 8 :]):
        wide = body[:1] == b"\3"
        number, _, named = struct.unpack_from(">IH4s" if wide else ">HH4s", body, 4)
        if kind == b"infe" and named == b"Exif":
            return int(number)
    return None


def _extents(places: bytes, wanted: int) -> Iterator[tuple[int, int]]:
    """Where in the file an item lies, and how long it is there."""
    version, sizes = struct.unpack_from(">B3xH", places)
    of_offset, of_length, of_base, of_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    if not of_length:
        raise struct.error("places without a length")
    if version == 0:
        of_index = 0
    at = 6

    def number(size: int) -> int:
        nonlocal at
        data = places[at : at + size]
        if len(data) != size:
            raise struct.error("a number is cut off")
        at += size
        return int.from_bytes(data)

    of_id = 2 if version < 2 else 4
    for _ in range(number(of_id)):
        item = number(of_id)
        in_file = version == 0 or number(2) & 15 == 0
        number(2)  # which file: this one
        base = number(of_base)
        for _ in range(number(2)):
            number(of_index)
            offset, length = number(of_offset), number(of_length)
            if item == wanted and in_file:
                yield base + offset, length
