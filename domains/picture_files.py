"""What a picture's file says it is, by its first and last bytes; nothing is decoded."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import BinaryIO

from domains import avif_boxes
from domains.values import ImageFileFormat

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = b"\x00\x00\x00\rIHDR"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
# Frame headers are C0 to CF but for these, which are tables and reserved.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MOST_SEGMENTS = 1_000


class NoPicture(Exception):
    """The file is none of the formats, or ends too early."""


def measure(file: BinaryIO, size: int) -> tuple[ImageFileFormat, int, int]:
    """The format, and width and height in pixels, of a file of `size` bytes.

    Raises:
        NoPicture: It is no picture.
    """
    file.seek(0)
    start = file.read(32)
    file.seek(max(size - 12, 0))
    end = file.read(12)
    if start.startswith(_PNG + _PNG_HEADER) and end == _PNG_END:
        return ImageFileFormat.PNG, _big(start[16:20]), _big(start[20:24])
    if start.startswith(_JPEG_START) and end.endswith(_JPEG_END):
        return ImageFileFormat.JPEG, *_jpeg_size(file)
    whole = _little(start[4:8]) + 8 == size
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP" and whole:
        return ImageFileFormat.WEBP, *_webp_size(start)
    if start[4:12] == avif_boxes.BRAND:
        try:
            return ImageFileFormat.AVIF, *avif_boxes.size_of(file, size)
        except avif_boxes.NoBoxes:
            raise NoPicture from None
    raise NoPicture


@cache  # every generation asks, and what is installed stays
def writable_formats() -> tuple[ImageFileFormat, ...]:
    """Those that pictures can be written in here; of AVIF Pillow has builds without."""
    avif = find_spec("PIL._avif") is not None
    return tuple(each for each in ImageFileFormat if avif or each is not ImageFileFormat.AVIF)


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    file.seek(2)
    for _ in range(_MOST_SEGMENTS):
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            break
        if head[1] in _JPEG_FRAMES:
            frame = file.read(5)
            return _big(frame[3:5]), _big(frame[1:3])
        file.seek(max(_big(head[2:4]) - 2, 0), 1)
    raise NoPicture


def _webp_size(start: bytes) -> tuple[int, int]:
    match start[12:16]:
        case b"VP8X":
            return _little(start[24:27]) + 1, _little(start[27:30]) + 1
        case b"VP8 " if start[23:26] == b"\x9d\x01\x2a":
            return _little(start[26:28]) & 0x3FFF, _little(start[28:30]) & 0x3FFF
        case b"VP8L" if start[20:21] == b"\x2f":
            bits = _little(start[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise NoPicture


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
