"""What an AVIF file says of its picture: the boxes of a HEIF file (ISO/IEC 23008-12), with
nothing decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_MOST_BOXES = 1_000
_MOST_META_BYTES = 1 << 20
BRAND = b"ftypavif"
"""What stands after the first four bytes of a still picture."""


class NoBoxes(Exception):
    """The file is no whole AVIF picture."""


def size_of(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Width and height in pixels of the primary picture, before it is turned.

    Args:
        file: Open for reading.
        size_bytes: Of the whole file, which its boxes fill.

    Raises:
        NoBoxes: It is no AVIF picture, or not whole.
    """
    place, meta = 0, b""
    for number in range(_MOST_BOXES):
        if place == size_bytes:
            break
        file.seek(place)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        start = 8
        if length == 1:  # it stands after the kind
            length, start = int.from_bytes(head[8:16]), 16
        if length < start or place + length > size_bytes:
            raise NoBoxes
        if number == 0 and head[4:12] != BRAND:
            raise NoBoxes
        if kind == b"meta":
            if meta or length > _MOST_META_BYTES:
                raise NoBoxes
            file.seek(place + start)
            meta = file.read(length - start)
        place += length
    if place != size_bytes or not meta:
        raise NoBoxes
    return _primary_size(meta[4:])


def _primary_size(meta: bytes) -> tuple[int, int]:
    parts = dict(_inside(meta))
    properties = dict(_inside(parts.get(b"iprp", b"")))
    primary = parts.get(b"pitm", b"")
    wanted = int.from_bytes(primary[4:6] if primary[:1] == b"\0" else primary[4:8])
    described = list(_inside(properties.get(b"ipco", b"")))
    for index in _properties(properties.get(b"ipma", b""), wanted):
        if not 0 < index <= len(described):
            raise NoBoxes
        kind, body = described[index - 1]
        if kind == b"ispe" and len(body) == 12:
            width, height = int.from_bytes(body[4:8]), int.from_bytes(body[8:12])
            if width and height:
                return width, height
    raise NoBoxes


def _properties(associations: bytes, wanted: int) -> Iterator[int]:
    """Numbers, from 1, of the properties that an item has."""
    wide_ids, wide_numbers = associations[:1] != b"\0", associations[3:4] == b"\1"
    id_bytes, number_bytes = 4 if wide_ids else 2, 2 if wide_numbers else 1
    count, place = int.from_bytes(associations[4:8]), 8
    for _ in range(min(count, _MOST_BOXES)):
        item = int.from_bytes(associations[place : place + id_bytes])
        place += id_bytes
        numbers = int.from_bytes(associations[place : place + 1])
        place += 1
        for _ in range(numbers):
            number = int.from_bytes(associations[place : place + number_bytes])
            place += number_bytes
            if item == wanted:
                # The highest bit says only whether a reader must know the property.
                yield number & ((1 << (8 * number_bytes - 1)) - 1)


def _inside(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box in a row."""
    place = 0
    for _ in range(_MOST_BOXES):
        if place == len(data):
            return
        length = int.from_bytes(data[place : place + 4])
        if length < 8 or place + length > len(data):
            raise NoBoxes
        yield data[place + 4 : place + 8], data[place + 8 : place + length]
        place += length
    raise NoBoxes
