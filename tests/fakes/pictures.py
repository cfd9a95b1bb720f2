"""Small files that are pictures: black ones, told apart by a text."""

from __future__ import annotations

import struct
import zlib


def png(width: int, height: int, text: str = "") -> bytes:
    """A black PNG of that size in pixels, with a text in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * height), 9)
    comment = b"Comment\0" + text.encode("latin-1")
    parts = ((b"IHDR", header), (b"tEXt", comment), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
